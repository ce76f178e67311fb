-- Gives up the ownership of a session, and closes it to new jobs unless it is only detached. Its jobs are not stopped
-- here: where its end means that, the caller's next step is `stop`.
--
-- Reads first: the owner, because another owner may have taken the session over and then keeps it as it is.
-- Writes: the session's record; drops the owner's lease and mailbox.
-- A repeat finds no owner and answers as the first time.
--
-- KEYS: tag, session.
-- ARGV: session, owner, mode (close | detach).
-- Replies: closed | detached | missing | owned (by another owner).
local sid, owner, mode = unpack(ARGV, 1, 3)
local session = read(session_key(sid), { 'cap', 'owner' })
if not session.cap then return 'missing' end
if session.owner and session.owner ~= owner then return 'owned' end
if session.owner then
  redis.call('ZREM', LEASE, owner_member(sid))
  redis.call('HDEL', session_key(sid), 'owner')
  redis.call('HSET', session_key(sid), 'on_end', 'keep')
  redis.call('DEL', mailbox_key(sid))
end
if mode ~= 'detach' then redis.call('HSET', session_key(sid), 'closed', 1) end
expire_session(sid)
return mode == 'detach' and 'detached' or 'closed'

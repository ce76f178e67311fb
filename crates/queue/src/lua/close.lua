-- Closes a session, or only gives up its ownership. What its end means for its jobs is the caller's next
-- step (stop), so nothing is swept here.
-- KEYS: tag, session. ARGV: session, owner, mode (close|detach).
-- Replies: closed | detached | missing | owned (by another owner, who keeps it as it is).
local sid, owner, mode = ARGV[1], ARGV[2], ARGV[3]
local session = read(session_key(sid), { 'cap', 'owner' })
if not session.cap then return 'missing' end
if session.owner and session.owner ~= owner then return 'owned' end
if session.owner then
  redis.call('ZREM', LEASE, owner_member(sid))
  redis.call('HDEL', session_key(sid), 'owner')
  redis.call('HSET', session_key(sid), 'ends', 'keep')
  redis.call('DEL', mailbox_key(sid))
end
if mode ~= 'detach' then redis.call('HSET', session_key(sid), 'closed', 1) end
fade(sid)
if mode == 'detach' then return 'detached' end
return 'closed'

-- Opens a session, or takes over its ownership from an owner whose lease is gone.
--
-- Reads first: whether the session is closed or has another live owner. Neither is changed.
-- Writes: the session's record, with its limit in money, and its budget in tokens where it is new, and the owner's lease.
-- A repeat finds the session and renews only the owner's lease.
--
-- KEYS: tag, session.
-- ARGV: session, owner ('' for none), what the owner's end means for the jobs (stop | keep), cap (0 for none), own lane
--   ('' for the shared lanes), ms that the owner may be away, budget in tokens, and in millionths of a dollar ('' for none),
--   quota of unfinished jobs (0 for none).
-- Replies: opened | owned (by another owner) | closed.
local sid, owner, on_end, cap, lane, grace, budget, max_cost, quota = unpack(ARGV, 1, 9)
local session = read(session_key(sid), { 'cap', 'owner', 'closed' })
if session.closed then return 'closed' end
if session.owner and owner ~= '' and session.owner ~= owner then
  if redis.call('ZSCORE', LEASE, owner_member(sid)) then return 'owned' end
end
if not session.cap then
  redis.call(
    'HSET', session_key(sid), 'cap', cap, 'quota', quota, 'created', now, 'on_end', on_end, 'jobs', 0, 'sequence', 0
  )
  if lane ~= '' then redis.call('HSET', session_key(sid), 'lane', lane) end
  if budget ~= '' then redis.call('HSET', budget_key(sid), 'limit', budget, 'spent', 0) end
  -- Not with the budget in tokens: an earlier release takes one without a limit for spent.
  if max_cost ~= '' then redis.call('HSET', session_key(sid), 'max_cost', max_cost) end
  -- Without an owner it expires unless a job is stored in time.
  if owner == '' then expire_session(sid) end
end
if owner ~= '' then
  redis.call('HSET', session_key(sid), 'owner', owner, 'on_end', on_end, 'owner_grace', grace)
  keep_session(sid)
  redis.call('ZADD', LEASE, now + tonumber(grace), owner_member(sid))
end
return 'opened'

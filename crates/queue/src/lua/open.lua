-- Opens a session. A repeat finds it and changes nothing but the owner's lease.
-- KEYS: tag, session. ARGV: session, owner ('' for none), ends (stop|keep), cap, lane ('' for the shared
-- lanes), lease in ms, budget in tokens ('' for none).
-- Replies: opened | owned (by another owner) | closed.
local sid, owner, ends, cap, lane, lease = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
local session = read(session_key(sid), { 'cap', 'owner', 'closed' })
if session.closed then return 'closed' end
if session.owner and owner ~= '' and session.owner ~= owner then
  if redis.call('ZSCORE', LEASE, owner_member(sid)) then return 'owned' end
end
if not session.cap then
  redis.call('HSET', session_key(sid), 'cap', cap, 'created', now, 'ends', ends, 'jobs', 0, 'sequence', 0)
  if lane ~= '' then redis.call('HSET', session_key(sid), 'lane', lane) end
  if ARGV[7] ~= '' then redis.call('HSET', budget_key(sid), 'limit', ARGV[7], 'spent', 0) end
  -- Until its first job a session without an owner is nobody's.
  if owner == '' then fade(sid) end
end
if owner ~= '' then
  redis.call('HSET', session_key(sid), 'owner', owner, 'ends', ends)
  keep_session(sid)
  redis.call('ZADD', LEASE, now + lease, owner_member(sid))
end
return 'opened'

-- Drops what is left of an ended job whose output, turns and fence are gone already. Spares a job whose
-- dispatcher lives: it may not have been told.
-- KEYS: tag, job. ARGV: mode (ask | ask-forced change nothing; kept | forced drop), id.
-- Replies: forgotten | spared | live | missing.
local mode, id = ARGV[1], ARGV[2]
local job = read(job_key(id), { 'state', 'session', 'parent', 'team', 'once' })
local bytes = raw(id)

local function unindex()
  redis.call('ZREM', INDEX_ALL, bytes)
  redis.call('ZREM', INDEX_ENDED, bytes)
  redis.call('ZREM', INDEX_UNLUCKY, bytes)
end

if not job.state then
  unindex()
  return 'missing'
end
if job.state ~= 'completed' and job.state ~= 'failed' and job.state ~= 'stopped' then return 'live' end
if mode == 'ask' or mode == 'kept' then
  if job.parent then
    local above = redis.call('HGET', job_key(job.parent), 'state')
    if above and above ~= 'completed' and above ~= 'failed' and above ~= 'stopped' then return 'spared' end
  elseif redis.call('ZSCORE', LEASE, owner_member(job.session)) then
    return 'spared'
  end
end
if mode == 'ask' or mode == 'ask-forced' then return 'forgotten' end

local session = read(session_key(job.session), { 'lane', 'jobs' })
redis.call('DEL', job_key(id), spec_key(id), result_key(id), children_key(id), mailbox_key(id))
if job.once then redis.call('DEL', once_key(job.once)) end
redis.call('ZREM', children_key(job.parent or job.session), id)
unindex()
if redis.call('HINCRBY', team_key(job.team), 'jobs', -1) <= 0 then redis.call('DEL', team_key(job.team)) end
local left = (tonumber(session.jobs) or 0) - 1
if left > 0 or redis.call('ZSCORE', LEASE, owner_member(job.session)) then
  redis.call('HSET', session_key(job.session), 'jobs', left)
else
  if session.lane then
    redis.call('DEL', ready_key(session.lane, 0), ready_key(session.lane, 1), ready_key(session.lane, 2),
      wake_key(session.lane))
  end
  redis.call('DEL', session_key(job.session), children_key(job.session), mailbox_key(job.session))
end
return 'forgotten'

-- Drops what is left of an ended job whose output, turns and fence are gone already. Spares a job whose
-- dispatcher lives: it may not have been told. Its children, where they are kept, move up to the nearest
-- record above it, so that lists and stops go on finding them.
-- KEYS: tag, job. ARGV: mode (ask | ask-forced change nothing; kept | forced drop), id.
-- Replies: forgotten | spared | live | missing.
local mode, id = ARGV[1], ARGV[2]
local job = read(job_key(id), {
  'state', 'session', 'parent', 'team', 'once', 'dispatched',
  'a1', 'a2', 'a3', 'a4', 'a5', 'a6', 'a7', 'a8', 'a9', 'a10',
})
local bytes = raw(id)

local function unindex()
  redis.call('ZREM', INDEX_ALL, bytes)
  redis.call('ZREM', INDEX_ENDED, bytes)
  redis.call('ZREM', INDEX_UNSUCCESSFUL, bytes)
end

if not job.state then
  unindex()
  return 'missing'
end
if job.state ~= 'completed' and job.state ~= 'failed' and job.state ~= 'stopped' then return 'live' end
-- The sweep of its tree goes through it.
if job.dispatched and any_stop() and redis.call('EXISTS', stop_key(id)) == 1 then return 'live' end
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
local home = job.session
for _, field in ipairs(ANCESTORS) do
  if not job[field] then break end
  if redis.call('EXISTS', job_key(job[field])) == 1 then
    home = job[field]
    break
  end
end
local first = 0
while job.dispatched do
  local kept = redis.call('ZRANGE', children_key(id), first, first + 499, 'WITHSCORES')
  if #kept == 0 then break end
  local moved = {}
  for at = 1, #kept, 2 do
    moved[at], moved[at + 1] = kept[at + 1], kept[at]
  end
  redis.call('ZADD', children_key(home), unpack(moved))
  first = first + 500
end
redis.call('DEL', job_key(id), spec_key(id), result_key(id), children_key(id), mailbox_key(id))
if job.once then redis.call('DEL', idempotency_key(job.once)) end
redis.call('ZREM', children_key(home), id)
unindex()
if redis.call('HINCRBY', team_key(job.team), 'jobs', -1) <= 0 then redis.call('DEL', team_key(job.team)) end
-- What it spent stays spent.
redis.call('HDEL', budget_key(job.session), 'held:' .. id)
local left = (tonumber(session.jobs) or 0) - 1
if left > 0 or redis.call('ZSCORE', LEASE, owner_member(job.session)) then
  redis.call('HSET', session_key(job.session), 'jobs', left)
else
  if session.lane then
    redis.call('DEL', ready_key(session.lane, 0), ready_key(session.lane, 1), ready_key(session.lane, 2),
      wake_key(session.lane))
  end
  redis.call('DEL', session_key(job.session), children_key(job.session), mailbox_key(job.session),
    todos_key(job.session), budget_key(job.session))
end
return 'forgotten'

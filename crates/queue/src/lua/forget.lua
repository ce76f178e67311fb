-- Deletes what is left of an ended job, after its output, turns and fence were deleted; or asks whether it may.
--
-- Reads first: state, stop mark, and whether the dispatcher lives. A live dispatcher may not have read of the end,
-- so its job is spared unless an operator forces it; a job with a stop mark is kept, because the sweep goes through it.
-- Writes: moves the job's children up to the nearest record above, so that lists and stops still find them, one page in a
-- call; with the last page deletes the record, its index entries and its key, and with its last job the session and the
-- team.
-- A repeat moves the next page, or finds no record and removes index entries again.
--
-- KEYS: tag, job.
-- ARGV: mode (ask | ask-forced change nothing; kept | forced delete), id.
-- Replies: forgotten | spared | live | missing | more (children are left, and nothing is deleted yet).
local mode, id = unpack(ARGV, 1, 2)
local FIELDS = { 'state', 'session', 'parent', 'team', 'idempotency_key', 'dispatched', unpack(ANCESTORS) }
local job = read(job_key(id), FIELDS)
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
if not is_terminal(job.state) then return 'live' end
if job.dispatched and any_stop() and redis.call('EXISTS', stop_key(id)) == 1 then return 'live' end
if mode == 'ask' or mode == 'kept' then
  if job.parent then
    local above = redis.call('HGET', job_key(job.parent), 'state')
    if above and not is_terminal(above) then return 'spared' end
  elseif redis.call('ZSCORE', LEASE, owner_member(job.session)) then
    return 'spared'
  end
end
if mode == 'ask' or mode == 'ask-forced' then return 'forgotten' end

-- The nearest record above that is still kept, or the session.
local function heir()
  for _, field in ipairs(ANCESTORS) do
    if not job[field] then break end
    if redis.call('EXISTS', job_key(job[field])) == 1 then return job[field] end
  end
  return job.session
end

-- Children of one call: about a millisecond, for which the server is held up. Half of what ZADD takes in one call,
-- because each child has its sequence with it.
local PAGE_SIZE = CHUNK / 2
local home = heir()
if job.dispatched then
  local children = redis.call('ZRANGE', children_key(id), 0, PAGE_SIZE - 1, 'WITHSCORES')
  local moved, gone = {}, {}
  for at = 1, #children, 2 do
    moved[at], moved[at + 1] = children[at + 1], children[at]
    gone[#gone + 1] = children[at]
  end
  if #gone > 0 then
    redis.call('ZADD', children_key(home), unpack(moved))
    redis.call('ZREM', children_key(id), unpack(gone))
  end
  if #gone == PAGE_SIZE then return 'more' end
end
redis.call('DEL', job_key(id), spec_key(id), result_key(id), children_key(id), mailbox_key(id))
if job.idempotency_key then redis.call('DEL', idempotency_key(job.idempotency_key)) end
redis.call('ZREM', children_key(home), id)
unindex()
if redis.call('HINCRBY', team_key(job.team), 'jobs', -1) <= 0 then redis.call('DEL', team_key(job.team)) end
-- A reservation ends with its job. What the job spent stays spent.
redis.call('HDEL', budget_key(job.session), 'reserved:' .. id)
redis.call('HDEL', todos_key(job.session), 'calls:' .. id)

local session = read(session_key(job.session), { 'lane', 'jobs' })
local left = (tonumber(session.jobs) or 0) - 1
if left > 0 or redis.call('ZSCORE', LEASE, owner_member(job.session)) then
  redis.call('HSET', session_key(job.session), 'jobs', left)
else
  if session.lane then drop_lane(session.lane) end
  redis.call('DEL', children_key(job.session), mailbox_key(job.session), unpack(session_keys(job.session)))
end
return 'forgotten'

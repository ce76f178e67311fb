-- Deletes what is left of ended jobs, after their output, turns and fences were deleted; or asks whether it may.
--
-- Reads first, for each job: state, stop mark, whether the dispatcher lives and whether its end is still to be reported. A
-- live dispatcher may not have read of the end, so its job is spared unless an operator forces it; a job with a stop mark is kept, because the sweep goes
-- through it.
-- Writes, for each job: moves its children up to the nearest record above, so that lists and stops still find them, one
-- page in a call; with the last page deletes the record, its index entries and its key, and with its last job the
-- session and the team.
-- A repeat moves the next page, or finds no record and removes index entries again.
--
-- KEYS: tag.
-- ARGV: mode (ask | ask-forced change nothing; kept | forced delete), ids.
-- Replies: for each id forgotten | spared | live | missing | more (children are left, and the job is not deleted yet).
local mode = ARGV[1]
local asks = mode == 'ask' or mode == 'ask-forced'

local function unindex(bytes, states)
  redis.call('ZREM', INDEX_ENDED, bytes)
  for _, state in ipairs(states) do redis.call('ZREM', index_key(state), bytes) end
end

-- Whether the job's dispatcher lives, or its end is still to be reported.
local function is_awaited(id, job)
  if job.notify and redis.call('ZSCORE', NOTIFICATIONS, id) then return true end
  if not job.parent then return redis.call('ZSCORE', LEASE, owner_member(job.session)) end
  local above = redis.call('HGET', job_key(job.parent), 'state')
  return above and not is_terminal(above)
end

-- The nearest record above that is still kept, or the session.
local function heir(id, job)
  for _, ancestor in ipairs(ancestors_of(id)) do
    if redis.call('EXISTS', job_key(ancestor)) == 1 then return ancestor end
  end
  return job.session
end

-- Children that this call may still move: about a millisecond for all of them, for which the server is held up. Half of
-- what ZADD takes in one call, because each child has its sequence with it.
local budget = CHUNK / 2

-- Moves children of a job to its heir, and returns whether all were moved.
local function move_children(id, home)
  if budget == 0 then return redis.call('EXISTS', children_key(id)) == 0 end
  local children = redis.call('ZRANGE', children_key(id), 0, budget - 1, 'WITHSCORES')
  local moved, gone = {}, {}
  for at = 1, #children, 2 do
    moved[at], moved[at + 1] = children[at + 1], children[at]
    gone[#gone + 1] = children[at]
  end
  if #gone > 0 then
    redis.call('ZADD', children_key(home), unpack(moved))
    redis.call('ZREM', children_key(id), unpack(gone))
  end
  local is_full = #gone == budget
  budget = budget - #gone
  return not is_full
end

-- One job less in its session, which ends with its last job and without an owner.
local function leave_session(sid)
  local session = read(session_key(sid), { 'lane', 'jobs' })
  local left = (tonumber(session.jobs) or 0) - 1
  if left > 0 or redis.call('ZSCORE', LEASE, owner_member(sid)) then
    redis.call('HSET', session_key(sid), 'jobs', left)
  else
    if session.lane then drop_lane(session.lane) end
    redis.call('DEL', children_key(sid), mailbox_key(sid), unpack(session_keys(sid)))
  end
end

local function forget(id)
  local job = job_of(id, { 'state', 'dispatched', 'notify' })
  local bytes = raw(id)
  if not job.state then
    unindex(bytes, { 'live', 'completed', 'failed', 'stopped' })
    return 'missing'
  end
  if not is_terminal(job.state) then return 'live' end
  if job.dispatched and any_stop() and redis.call('EXISTS', stop_key(id)) == 1 then return 'live' end
  if (mode == 'ask' or mode == 'kept') and is_awaited(id, job) then return 'spared' end
  if asks then return 'forgotten' end

  local home = heir(id, job)
  if job.dispatched and not move_children(id, home) then return 'more' end
  redis.call('DEL', job_key(id), spec_key(id), result_key(id), children_key(id), mailbox_key(id), questions_key(id))
  -- A process of a release without questions ended the job and left this.
  redis.call('ZREM', ASKING, id)
  if job.notify then redis.call('ZREM', NOTIFICATIONS, id) end
  if job.idempotency_key then redis.call('DEL', idempotency_key(job.idempotency_key)) end
  redis.call('ZREM', children_key(home), id)
  unindex(bytes, { job.state })
  if redis.call('HINCRBY', team_key(job.team), 'jobs', -1) <= 0 then redis.call('DEL', team_key(job.team)) end
  -- A reservation ends with its job. What the job spent stays spent.
  redis.call('HDEL', budget_key(job.session), 'reserved:' .. id)
  redis.call('HDEL', todos_key(job.session), 'calls:' .. id)
  leave_session(job.session)
  return 'forgotten'
end

local replies = {}
for at = 2, #ARGV do replies[at - 1] = forget(ARGV[at]) end
return replies

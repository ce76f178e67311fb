-- The end of a job: one function for all ways to end, and what several ends of one step change only once. Needs stops
-- and admission.

-- Moves ended jobs from the index of live jobs to those of their states and of ended jobs. `jobs` has the raw ids, by
-- state too. The indexes of states are by creation like that of live jobs, so that one cursor serves all. Every job is in
-- one of these.
local function move_to_ended(jobs)
  if #jobs.all == 0 then return end
  local created, by_end = redis.call('ZMSCORE', INDEX_LIVE, unpack(jobs.all)), {}
  redis.call('ZREM', INDEX_LIVE, unpack(jobs.all))
  for at, bytes in ipairs(jobs.all) do
    by_end[2 * at - 1], by_end[2 * at] = now_text, bytes
    jobs.scores[bytes] = created[at] or now_text
  end
  redis.call('ZADD', INDEX_ENDED, unpack(by_end))
  for state, ids in pairs(jobs.by_state) do
    local by_creation = {}
    for at, bytes in ipairs(ids) do by_creation[2 * at - 1], by_creation[2 * at] = jobs.scores[bytes], bytes end
    redis.call('ZADD', index_key(state), unpack(by_creation))
  end
end

-- Live counts to lower by key, ended jobs of jobs by session, leases to remove, ends for the index, and the last ended
-- job of each session: applied at the end of the step.
local fewer, fewer_nested, leases_gone = {}, {}, {}
local ended, ended_in = { all = {}, by_state = {}, scores = {} }, {}
deferred[#deferred + 1] = function()
  for key, count in pairs(fewer) do redis.call('HINCRBY', key, 'live', -count) end
  for sid, count in pairs(fewer_nested) do redis.call('HINCRBY', session_key(sid), 'nested', -count) end
  call_in_chunks('ZREM', LEASE, leases_gone)
  move_to_ended(ended)
  for sid, id in pairs(ended_in) do redis.call('PUBLISH', session_channel(sid), id) end
end

-- Jobs whose end is reported, with all ends of the step: the report is stored in the step that ends the job. A shard keeps
-- so many that are not delivered; beyond that those are dropped that are due last, which have failed most often.
local MAX_NOTIFICATIONS = 10000
local to_notify = {}
deferred[#deferred + 1] = function()
  if #to_notify == 0 then return end
  call_in_chunks('ZADD', NOTIFICATIONS, to_notify)
  local excess = redis.call('ZCARD', NOTIFICATIONS) - MAX_NOTIFICATIONS
  if excess <= 0 then return end
  for _, id in ipairs(redis.call('ZREVRANGE', NOTIFICATIONS, 0, excess - 1)) do
    local notice = redis.call('HGET', job_key(id), 'notice') or ''
    local attempts = string.match(notice, '^%S+ (%d+)') or '0'
    redis.call('ZREM', NOTIFICATIONS, id)
    redis.call('HSET', job_key(id), 'notice', 'dropped ' .. attempts .. ' 0 too many notifications were not delivered')
  end
end

-- The fields that end_job needs.
local ENDING = {
  'state', 'entry', 'token', 'dispatched', 'mail', 'lacks', 'failures', 'asks', 'quarantine', 'notify',
}

-- Whether a job's dispatcher lives, so that it gets mail of the job's end. Lowers the counts of live jobs.
local function count_down(job)
  if not job.parent then
    local key = session_key(job.session)
    fewer[key] = (fewer[key] or 0) + 1
    return session_of(job.session).owner
  end
  fewer_nested[job.session] = (fewer_nested[job.session] or 0) + 1
  -- It has run, so it has a hash until it is forgotten.
  local state = redis.call('HGET', job_key(job.parent), 'state')
  -- HINCRBY would make the record of a forgotten parent again.
  if not state then return false end
  local key = job_key(job.parent)
  fewer[key] = (fewer[key] or 0) + 1
  return not is_terminal(state)
end

local NOTHING = {}

-- Ends a job: terminal state, result, lease, admission, mail, indexes, notification, notice. `job` has the fields of ENDING. `ending`
-- has state, cause, text, fields (a flat list for HSET), root (of the stop mark that covers the job), and raw (its id,
-- where the caller has it). Returns whether the job failed with a tree below it, which was marked and must be swept.
local function end_job(id, job, ending)
  if ending.cause then redis.call('HSET', job_key(id), 'cause', ending.cause) end
  redis.call('HSET', job_key(id), 'state', ending.state, 'finished', now_text, unpack(ending.fields or NOTHING))
  if ending.text and ending.text ~= '' then
    redis.call('SET', result_key(id), ending.text)
  elseif ending.state ~= 'stopped' and job.failures then
    -- The error of an earlier attempt is not the result of this one.
    redis.call('DEL', result_key(id))
  end

  if job.state == 'scheduled' then
    redis.call('ZREM', SCHEDULED, id)
  else
    if job.state ~= 'queued' then leases_gone[#leases_gone + 1] = id end
    -- A waiting job has left admission when it was parked.
    if job.state ~= 'waiting' then leave_queue(id, job) end
  end

  -- A dispatcher that asked for the stop itself gets no mail of it.
  local asker = ending.root and redis.call('HGET', stop_key(ending.root), 'asker')
  local dispatcher = job.parent or job.session
  if count_down(job) and asker ~= dispatcher then
    redis.call('XADD', mailbox_key(dispatcher), '*', 'ended', id)
  end

  local bytes = ending.raw or raw(id)
  ended.all[#ended.all + 1] = bytes
  local ids = ended.by_state[ending.state] or {}
  ids[#ids + 1] = bytes
  ended.by_state[ending.state] = ids
  ended_in[job.session] = id
  if job.notify then
    local at = #to_notify
    to_notify[at + 1], to_notify[at + 2] = now_text, id
  end

  if job.dispatched or job.mail then redis.call('DEL', mailbox_key(id)) end
  if job.lacks then redis.call('DEL', lacks_key(id)) end
  if job.asks then
    redis.call('DEL', questions_key(id))
    redis.call('ZREM', ASKING, id)
  end
  if job.dispatched and ending.state == 'failed' then
    mark_stop(id, 'job', 'parent')
    return true
  end
  return false
end

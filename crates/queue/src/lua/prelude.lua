-- Shared by every step of a shard: time, the stop marks, admission, and the end of a job.
-- Time is Redis' own, in milliseconds.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
-- Names this call: no two have the same.
local stamp = clock[1] .. '.' .. clock[2]

-- The fields by which a job's place in its tree is known.
local ANCESTORS = { 'a1', 'a2', 'a3', 'a4', 'a5', 'a6', 'a7', 'a8', 'a9', 'a10' }

-- Reads fields of a hash into a table by name; absent fields are false.
local function read(key, fields)
  local values = redis.call('HMGET', key, unpack(fields))
  local record = {}
  for i, field in ipairs(fields) do record[field] = values[i] end
  return record
end

-- The raw 16 bytes of a UUID: the form in the indexes.
local function raw(id)
  return (string.gsub(string.gsub(id, '-', ''), '..', function(hex) return string.char(tonumber(hex, 16)) end))
end

-- Whether any tree of this shard is being stopped: one read, mostly the only one.
local marks = nil
local function any_stop()
  if marks == nil then marks = redis.call('ZCARD', STOPS) > 0 end
  return marks
end

-- The jobs above a job, the nearest first. Read only where they are needed: mostly nothing is stopped.
local function ancestors_of(id)
  local above = {}
  for _, ancestor in ipairs(redis.call('HMGET', job_key(id), unpack(ANCESTORS))) do
    if not ancestor then break end
    above[#above + 1] = ancestor
  end
  return above
end

-- The root of the stop mark that covers a job (or with id nil the root of a session), or nil.
local function stop_root(id, session)
  if not any_stop() then return nil end
  if redis.call('EXISTS', stop_key(session)) == 1 then return session end
  if not id then return nil end
  if redis.call('EXISTS', stop_key(id)) == 1 then return id end
  for _, ancestor in ipairs(ancestors_of(id)) do
    if redis.call('EXISTS', stop_key(ancestor)) == 1 then return ancestor end
  end
  return nil
end

-- Tells idle workers of a lane that `count` jobs were added.
local function wake(lane, count)
  local tokens = {}
  for i = 1, math.min(count, 64) do tokens[i] = '1' end
  local length = redis.call('LPUSH', wake_key(lane), unpack(tokens))
  if length > 64 then redis.call('LTRIM', wake_key(lane), 0, 63) end
  if length == #tokens then redis.call('EXPIRE', wake_key(lane), 3600) end
end

-- What admission needs of a session, read once in a script.
local sessions = {}
local function session_of(sid)
  local known = sessions[sid]
  if not known then
    known = read(session_key(sid), { 'cap', 'owner' })
    known.cap = tonumber(known.cap or '0')
    sessions[sid] = known
  end
  return known
end

-- Puts a job onto its lane's stream and counts it as admitted; its entry. Does not wake.
local function place(id, session, queue, lane, priority)
  redis.call('ZADD', admitted_key(session, queue), now, id)
  return redis.call('XADD', ready_key(lane, priority), '*', 'job', id)
end

-- The same for a job whose record is there already.
local function admit(id, session, queue, lane, priority)
  redis.call('HSET', job_key(id), 'entry', place(id, session, queue, lane, priority))
end

-- Whether a session's cap leaves room in this queue.
local function has_room(session, queue)
  local cap = session_of(session).cap
  return cap == 0 or redis.call('ZCARD', admitted_key(session, queue)) < cap
end

-- Admits the next jobs of a session's backlog while the cap allows. A backlog seen empty stays so within a
-- script that ends jobs.
local drained = {}
local function admit_next(session, queue)
  local waiting = backlog_key(session, queue)
  if drained[waiting] then return end
  if any_stop() and redis.call('EXISTS', stop_key(session)) == 1 then return end
  while true do
    local first = redis.call('ZRANGE', waiting, 0, 0)[1]
    if not first then
      drained[waiting] = true
      return
    end
    if not has_room(session, queue) then return end
    redis.call('ZREM', waiting, first)
    local job = read(job_key(first), { 'state', 'lane', 'priority' })
    if job.state == 'queued' then
      admit(first, session, queue, job.lane, job.priority)
      wake(job.lane, 1)
    end
  end
end

-- Puts a job that waits for admission behind its session's others, by priority, then age.
local function hold_back(id, session, queue, priority, sequence)
  redis.call('ZADD', backlog_key(session, queue), priority * 1e12 + sequence, id)
  drained[backlog_key(session, queue)] = nil
end

-- Takes a job out of the stream, the backlog and the admitted, and admits the session's next.
local function leave_queue(id, job)
  if job.state == 'queued' and job.entry then
    redis.call('XDEL', ready_key(job.lane, job.priority), job.entry)
  end
  if redis.call('ZREM', admitted_key(job.session, job.queue), id) == 0 then
    redis.call('ZREM', backlog_key(job.session, job.queue), id)
  end
  admit_next(job.session, job.queue)
end

-- Whether a job is held by the attempt with this token.
local function runs(id, token)
  local job = read(job_key(id), { 'state', 'token' })
  return job.token == token and (job.state == 'running' or job.state == 'waiting' or job.state == 'stopping')
end

-- Keeps a session and what its agents share.
local function keep_session(sid)
  for _, key in ipairs({ session_key(sid), todos_key(sid), budget_key(sid) }) do redis.call('PERSIST', key) end
end

-- Lets a key of a session end when the session does.
local function follow_session(sid, key)
  local left = redis.call('TTL', session_key(sid))
  if left > 0 then redis.call('EXPIRE', key, left) else redis.call('PERSIST', key) end
end

-- Lets a session without jobs and without an owner go: its lanes now, its record after an hour, in which a
-- late open or close is answered as before.
local function fade(sid)
  local session = read(session_key(sid), { 'jobs', 'lane' })
  if tonumber(session.jobs or '0') > 0 then return end
  if session.lane then
    redis.call('DEL', ready_key(session.lane, 0), ready_key(session.lane, 1), ready_key(session.lane, 2),
      wake_key(session.lane))
  end
  for _, key in ipairs({ session_key(sid), todos_key(sid), budget_key(sid) }) do redis.call('EXPIRE', key, 3600) end
end

-- What the ends of jobs change once for many: counters, leases, notices. Every script that calls end_job
-- calls settle at its end.
local fewer, leases_gone, noticed = {}, {}, {}
local function settle()
  for key, count in pairs(fewer) do redis.call('HINCRBY', key, 'live', -count) end
  for first = 1, #leases_gone, 1000 do
    redis.call('ZREM', LEASE, unpack(leases_gone, first, math.min(first + 999, #leases_gone)))
  end
  for sid, id in pairs(noticed) do redis.call('PUBLISH', session_channel(sid), id) end
end

-- What end_job and its callers need of a record.
local ENDING = {
  'state', 'session', 'parent', 'queue', 'lane', 'priority', 'entry', 'token', 'dispatched', 'mail',
  'lacks',
}

-- Ends a job: terminal state, result, lease, admission, mail, indexes, notice. `ending` has state, cause,
-- text, fields (a flat list for HSET), the root of the stop mark, and the raw id where it is known. Answers
-- whether the job left a tree that must be swept.
local function end_job(id, job, ending)
  local fields = { 'state', ending.state, 'finished', now }
  if ending.cause then
    fields[#fields + 1] = 'cause'
    fields[#fields + 1] = ending.cause
  end
  for _, field in ipairs(ending.fields or {}) do fields[#fields + 1] = field end
  redis.call('HSET', job_key(id), unpack(fields))
  if ending.text and ending.text ~= '' then
    redis.call('SET', result_key(id), ending.text)
  elseif ending.state ~= 'stopped' then
    -- What an earlier try left is not the result of this one.
    redis.call('DEL', result_key(id))
  end
  if job.state == 'scheduled' then
    redis.call('ZREM', SCHEDULED, id)
  else
    if job.state ~= 'queued' then leases_gone[#leases_gone + 1] = id end
    if job.state ~= 'waiting' then
      leave_queue(id, job)
    end
  end

  local asked_by = nil
  if ending.root then asked_by = redis.call('HGET', stop_key(ending.root), 'who') end
  local told = false
  if job.parent then
    local state = redis.call('HGET', job_key(job.parent), 'state')
    told = state and state ~= 'completed' and state ~= 'failed' and state ~= 'stopped'
    -- A parent that was forgotten must not be made again.
    if state then fewer[job_key(job.parent)] = (fewer[job_key(job.parent)] or 0) + 1 end
  else
    fewer[session_key(job.session)] = (fewer[session_key(job.session)] or 0) + 1
    told = session_of(job.session).owner
  end
  local dispatcher = job.parent or job.session
  if told and asked_by ~= dispatcher then
    redis.call('XADD', mailbox_key(dispatcher), '*', 'ended', id)
  end

  local bytes = ending.raw or raw(id)
  redis.call('ZADD', INDEX_ENDED, now, bytes)
  -- By creation like the index of all, so that one cursor serves both.
  if ending.state ~= 'completed' then
    redis.call('ZADD', INDEX_UNSUCCESSFUL, redis.call('HGET', job_key(id), 'created'), bytes)
  end
  noticed[job.session] = id

  if job.dispatched or job.mail then redis.call('DEL', mailbox_key(id)) end
  if job.lacks then redis.call('DEL', lacks_key(id)) end
  if job.dispatched then
    if ending.state == 'failed' then
      redis.call('HSETNX', stop_key(id), 'why', 'parent')
      redis.call('HSET', stop_key(id), 'asked', stamp)
      redis.call('ZADD', STOPS, 'NX', now, id)
      -- What this script looks at from now on may be below it.
      marks = true
      return true
    end
  end
  return false
end

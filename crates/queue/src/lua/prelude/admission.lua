-- Admission: which jobs of a session are on their lane's stream, and which wait in its backlog for the cap. Needs stops.

-- Wake tokens of a lane. A token wakes one idle worker, which then claims for all its free slots, so more tokens than
-- workers that will find jobs only cause claims that find nothing.
local WAKE_TOKENS = 64
-- Jobs for which one worker is woken: as many as a claim takes that is sent with the wait (MAX_WOKEN_SLOTS of a worker). Where
-- that worker has fewer free slots, its claim wakes others. One more is woken for several jobs: a worker that died, or that is
-- full and still waits on another shard, may take a token.
local JOBS_PER_TOKEN = 10
-- Seconds after which the tokens of a lane that no worker waits on are dropped.
local WAKE_EXPIRY = 3600

-- Jobs that this step put on each lane; one in quarantine, which takes a whole worker, counts as JOBS_PER_TOKEN. The workers
-- are woken at the end of the step, once for each lane.
local woken = {}
local function wake(lane, count)
  local tokens = {}
  for i = 1, math.min(count, math.ceil(count / JOBS_PER_TOKEN) + 1, WAKE_TOKENS) do tokens[i] = '1' end
  local length = redis.call('LPUSH', wake_key(lane), unpack(tokens))
  if length > WAKE_TOKENS then redis.call('LTRIM', wake_key(lane), 0, WAKE_TOKENS - 1) end
  if length == #tokens then redis.call('EXPIRE', wake_key(lane), WAKE_EXPIRY) end
end
deferred[#deferred + 1] = function()
  for lane, count in pairs(woken) do wake(lane, count) end
end

-- The cap, quota, limit in money, owner, lane and counts of a session, read once in a step, before it changes any of them.
local sessions = {}
local function session_of(sid)
  local known = sessions[sid]
  if not known then
    known = read(session_key(sid), { 'cap', 'owner', 'closed', 'lane', 'quota', 'max_cost', 'jobs', 'live', 'nested' })
    known.is_open = known.cap and true
    known.cap = tonumber(known.cap or '0')
    sessions[sid] = known
  end
  return known
end

-- Counts a job as admitted. A session without a cap keeps no account of that.
local function count_in(id, sid, queue)
  if session_of(sid).cap > 0 then redis.call('ZADD', admitted_key(sid, queue), now, id) end
end

-- Puts a job on its lane's stream. Returns its entry, for a record that is yet to be written.
local function place(id, sid, queue, lane, priority)
  count_in(id, sid, queue)
  woken[lane] = (woken[lane] or 0) + 1
  return redis.call('XADD', ready_key(lane, priority), '*', 'job', id)
end

-- Admits a job in quarantine: not to its lane's stream, but to where only workers look that hold nothing.
local function admit_alone(id, job, fields)
  count_in(id, job.session, job.queue)
  woken[job.lane] = (woken[job.lane] or 0) + JOBS_PER_TOKEN
  redis.call('ZADD', QUARANTINE, now, id)
  redis.call('HSET', job_key(id), 'state', 'queued', unpack(fields or {}))
  redis.call('HDEL', job_key(id), 'entry')
end

-- Admits a job, as `queued`. `fields` is a flat list of further ones for its record.
local function admit(id, job, fields)
  if job.quarantine then return admit_alone(id, job, fields) end
  local entry = place(id, job.session, job.queue, job.lane, job.priority)
  redis.call('HSET', job_key(id), 'state', 'queued', 'entry', entry, unpack(fields or {}))
end

-- Whether a session's cap leaves room in this queue.
local function has_room(sid, queue)
  local cap = session_of(sid).cap
  return cap == 0 or redis.call('ZCARD', admitted_key(sid, queue)) < cap
end

-- Backlogs that this step found empty: one that ends many jobs of a session reads its backlog once.
local drained = {}

-- Adds a job to its session's backlog, ordered by priority, then age. The factor leaves room for 10^12 jobs of a
-- session.
local function hold_back(id, sid, queue, priority, sequence)
  redis.call('ZADD', backlog_key(sid, queue), priority * 1e12 + sequence, id)
  drained[backlog_key(sid, queue)] = nil
end

-- Admits the next jobs of a session's backlog while the cap allows. A session that is being stopped admits none: its
-- sweep ends them where they are.
local function admit_next(sid, queue)
  local backlog = backlog_key(sid, queue)
  if drained[backlog] then return end
  if any_stop() and redis.call('EXISTS', stop_key(sid)) == 1 then return end
  while true do
    local first = redis.call('ZRANGE', backlog, 0, 0)[1]
    if not first then
      drained[backlog] = true
      return
    end
    if not has_room(sid, queue) then return end
    redis.call('ZREM', backlog, first)
    local job = job_of(first, { 'state', 'quarantine' })
    if job.state == 'queued' then admit(first, job) end
  end
end

-- Takes a job out of the stream, the backlog and the admitted, and admits the session's next.
local function leave_queue(id, job)
  if job.state == 'queued' and job.entry then
    redis.call('XDEL', ready_key(job.lane, job.priority), job.entry)
  elseif job.state == 'queued' and job.quarantine then
    redis.call('ZREM', QUARANTINE, id)
  end
  if session_of(job.session).cap == 0 then return end
  if redis.call('ZREM', admitted_key(job.session, job.queue), id) == 0 then
    redis.call('ZREM', backlog_key(job.session, job.queue), id)
  end
  admit_next(job.session, job.queue)
end

-- Gives a worker as many queued jobs as it has free slots: by lane, then priority, then age.
--
-- Takes no job of a paused queue; what was taken before the pause runs on.
-- Reads first: the worker's last claim. A number below it is answered with nothing, because the caller has given up on
-- that claim and no process would hold its jobs.
-- Writes, for each job: the record of a new attempt and its lease; drops the entries that it takes, and stale ones. Where
-- it passes over jobs that exclude the worker, it wakes another one: the worker may have taken their wake token.
-- A repeat has the number of its first call and gets the jobs of that call which still run for it.
--
-- KEYS: tag.
-- ARGV: worker, number of the claim, run token, free slots, lease in ms, then the lanes.
-- Replies: {{id, session, parent, attempt, queue, ran in ms, timeout in ms, retries, spec, depth, token, failures,
--   retry delay in ms, version of the record ('' for 1), 1 where its session has
--   a token budget}, ...}.
local worker, number, token, free, lease = unpack(ARGV, 1, 5)
local FIRST_LANE = 6
number, free, lease = tonumber(number), tonumber(free), tonumber(lease)
local FIELDS = {
  'state', 'entry', 'session', 'parent', 'attempt', 'queue', 'started', 'ran', 'timeout', 'retries', 'token', 'depth',
  'lacks', 'failures', 'retry_delay', 'v',
}

-- Whether the session of a job has a token budget, read once for each session.
local budgets = {}
local function has_budget(sid)
  if budgets[sid] == nil then budgets[sid] = redis.call('EXISTS', budget_key(sid)) end
  return budgets[sid]
end

local function answer(id, job, spec)
  return {
    id, job.session, job.parent or '', job.attempt, job.queue, job.ran or '0', job.timeout or '0', job.retries or '0',
    spec, job.depth or '0', job.token, job.failures or '0', job.retry_delay or '0', job.v or '',
    has_budget(job.session),
  }
end

local last = read(worker_key(worker), { 'claim', 'claimed', 'token' })
local latest = tonumber(last.claim or '0')
if number < latest then return {} end
if number == latest then
  local batch = {}
  for id in string.gmatch(last.claimed or '', '%S+') do
    local job = read(job_key(id), FIELDS)
    if job.token == last.token and job.state == 'running' then
      batch[#batch + 1] = answer(id, job, redis.call('GET', spec_key(id)))
    end
  end
  return batch
end

-- Whether this worker gave the job back because it lacks something that the job needs.
local function excluded(id, job)
  return job.lacks and redis.call('SISMEMBER', lacks_key(id), worker) == 1
end

-- ms between two tokens that a worker puts back on a lane for jobs that exclude it: where no other worker is idle it takes
-- them itself.
local PASS_ON_INTERVAL = 500
-- Seconds after which the tokens of a lane that no worker waits on are dropped, as in admission.lua.
local PASSED_ON_EXPIRY = 3600
local passed_over = false
local function pass_on(lane)
  local since = now - (tonumber(redis.call('HGET', worker_key(worker), 'passed_on')) or 0)
  if since >= 0 and since < PASS_ON_INTERVAL or redis.call('EXISTS', wake_key(lane)) == 1 then return end
  redis.call('HSET', worker_key(worker), 'passed_on', now)
  redis.call('LPUSH', wake_key(lane), '1')
  redis.call('EXPIRE', wake_key(lane), PASSED_ON_EXPIRY)
end

-- The paused queues, read once. A session's own lane has jobs of several queues, so each job is asked for its queue.
local paused = {}
for _, queue in ipairs(redis.call('HKEYS', PAUSED)) do paused[queue] = true end

-- Entries that a page reads beyond the free slots, so that a few excluded ones at the head do not cost a page each.
local EXTRA = 16
local ids, jobs, specs = {}, {}, {}

-- Takes jobs from one page of a stream, from `first` on. Returns where the next page begins, or nil at the end.
local function take(ready, first)
  local wanted = free - #ids + EXTRA
  local entries = redis.call('XRANGE', ready, first, '+', 'COUNT', wanted)
  local consumed = {}
  for _, entry in ipairs(entries) do
    if #ids >= free then break end
    local id = entry[2][2]
    local job = read(job_key(id), FIELDS)
    if job.state ~= 'queued' or job.entry ~= entry[1] then
      -- Stale: the job was forgotten, has ended, or has a later entry.
      consumed[#consumed + 1] = entry[1]
    elseif excluded(id, job) then
      passed_over = true
    elseif not paused[job.queue] and not stop_root(id, job.session) then
      consumed[#consumed + 1] = entry[1]
      ids[#ids + 1] = id
      jobs[#jobs + 1] = job
      specs[#specs + 1] = spec_key(id)
    end
  end
  if #consumed > 0 then redis.call('XDEL', ready, unpack(consumed)) end
  if #entries == wanted then return '(' .. entries[#entries][1] end
end

-- Pages of one stream that a claim reads at most. One page would let entries that exclude this worker hide the rest
-- forever; without a bound each claim could cost the whole stream.
local PAGES = 20
for lane = FIRST_LANE, #ARGV do
  for priority = 0, LOWEST_PRIORITY do
    local first = '-'
    for _ = 1, PAGES do
      if #ids >= free or not first or paused[ARGV[lane]] then break end
      first = take(ready_key(ARGV[lane], priority), first)
    end
  end
  if passed_over then pass_on(ARGV[lane]) end
  passed_over = false
end

-- Remembers this claim for its repeat. A heartbeat sets the expiry of the record; a worker that claims before its first
-- one, and dies, must not leave it forever.
local function remember()
  redis.call('HSET', worker_key(worker), 'claim', number, 'claimed', table.concat(ids, ' '), 'token', token)
  if not last.claim then redis.call('PEXPIRE', worker_key(worker), 3 * lease) end
end
if #ids == 0 then
  remember()
  return {}
end

local texts = redis.call('MGET', unpack(specs))
local batch, leases = {}, {}
for i, id in ipairs(ids) do
  local job = jobs[i]
  job.attempt = (tonumber(job.attempt) or 0) + 1
  job.started = job.started or now
  job.token = token
  redis.call('HSET', job_key(id), 'state', 'running', 'attempt', job.attempt, 'token', token, 'worker', worker,
    'claimed', now, 'started', job.started)
  leases[#leases + 1] = now + lease
  leases[#leases + 1] = id
  batch[i] = answer(id, job, texts[i])
end
redis.call('ZADD', LEASE, unpack(leases))
remember()
return batch

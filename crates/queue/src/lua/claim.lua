-- Gives a worker as many queued jobs as it has free slots: by lane, then priority, then age.
-- KEYS: tag. ARGV: worker, number of the claim, run token, free slots, lease in ms, then the lanes.
-- A repeat has the number of its first and gets the same batch; one that comes after its successor gets nothing:
-- whoever asked has given up waiting, and nobody would hold its jobs.
-- Replies: a list of {id, session, parent, attempt, queue, started, ran, timeout, retries, spec, depth, token,
-- failures, retry delay}.
local worker, number, token = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local free, lease = tonumber(ARGV[4]), tonumber(ARGV[5])
local FIELDS = {
  'state', 'entry', 'session', 'parent', 'attempt', 'queue', 'started', 'ran', 'timeout', 'retries', 'token', 'depth',
  'lacks', 'failures', 'retry_delay',
}

local function answer(id, job, spec)
  return {
    id, job.session, job.parent or '', job.attempt, job.queue, job.started, job.ran or '0',
    job.timeout or '0', job.retries or '0', spec, job.depth or '0', job.token,
    job.failures or '0', job.retry_delay or '0',
  }
end

local last = redis.call('HMGET', worker_key(worker), 'claim', 'claimed', 'token')
local latest = tonumber(last[1] or '0')
if number < latest then return {} end
if number == latest then
  local batch = {}
  for id in string.gmatch(last[2] or '', '%S+') do
    local job = read(job_key(id), FIELDS)
    if job.token == last[3] and job.state == 'running' then batch[#batch + 1] = answer(id, job, redis.call('GET', spec_key(id))) end
  end
  return batch
end

-- Whether this worker gave the job back for lacking something.
local function excluded(id, job)
  return job.lacks and redis.call('SISMEMBER', lacks_key(id), worker) == 1
end

local ids, jobs, specs = {}, {}, {}

-- Takes one page of a stream from `first` on; where the next page begins, or nil at the end.
local function take(ready, first)
  -- A few more than wanted, so that excluded entries at the head do not cost a page each.
  local wanted = free - #ids + 16
  local entries = redis.call('XRANGE', ready, first, '+', 'COUNT', wanted)
  local consumed = {}
  for _, entry in ipairs(entries) do
    if #ids >= free then break end
    local id = entry[2][2]
    local job = read(job_key(id), FIELDS)
    if job.state ~= 'queued' or job.entry ~= entry[1] then
      consumed[#consumed + 1] = entry[1]
    elseif not excluded(id, job) and not stop_root(id, job.session) then
      consumed[#consumed + 1] = entry[1]
      ids[#ids + 1] = id
      jobs[#jobs + 1] = job
      specs[#specs + 1] = spec_key(id)
    end
  end
  if #consumed > 0 then redis.call('XDEL', ready, unpack(consumed)) end
  if #entries == wanted then return '(' .. entries[#entries][1] end
end

-- Pages of one stream that a claim looks at: what excludes this worker must not hide the rest for ever, nor
-- cost every claim the whole stream.
local PAGES = 20
for lane = 6, #ARGV do
  for priority = 0, 2 do
    local first = '-'
    for _ = 1, PAGES do
      if #ids >= free or not first then break end
      first = take(ready_key(ARGV[lane], priority), first)
    end
  end
end

-- A heartbeat sets the end of the record; without one it must end too.
local function remember()
  redis.call('HSET', worker_key(worker), 'claim', ARGV[2], 'claimed', table.concat(ids, ' '), 'token', token)
  if not last[1] then redis.call('PEXPIRE', worker_key(worker), 3 * lease) end
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

-- Gives a worker as many queued jobs as it has free slots: by lane, then priority, then age.
--
-- Takes no job of a paused queue; what was taken before the pause runs on. A worker that holds nothing gets a job in
-- quarantine before any other, and it alone; for one that has waited for long, another worker gets none until it holds
-- nothing either.
-- Reads first: the worker's last claim. A number below it is answered with nothing, because the caller has given up on
-- that claim and no process would hold its jobs.
-- Writes, for each job: the record of a new attempt and its lease; drops the entries that it takes, and stale ones; who
-- keeps itself free for a job in quarantine. Where it leaves jobs that others may take, or passes over jobs that exclude
-- the worker, it wakes others: the worker may have taken the wake token of those.
-- A repeat has the number of its first call and gets the jobs of that call which still run for it.
--
-- KEYS: tag.
-- ARGV: worker, number of the claim, run token, free slots, lease in ms, 1 where the worker holds nothing, then the lanes.
-- Replies: {run token, then for each job: id, its facts and request, what changes in it}, or {} for none, or {clear}: the
--   worker is to take nothing until it holds nothing. What changes is attempt, ran in ms, retries (`-` for those of its
--   facts), failures, version of the record (`-` for 1), crashes in a row of a job in quarantine (`-` for any other), 1
--   where a message was sent to it (`-` where none was), separated by spaces.
local worker, number, token, free, lease, is_idle = unpack(ARGV, 1, 6)
local FIRST_LANE = 7
number, free, lease = tonumber(number), tonumber(free), tonumber(lease)
local FIELDS = {
  'state', 'entry', 'run', 'ran', 'retries', 'lacks', 'failures', 'v', 'token', 'quarantine', 'mail',
}
local batch = {}

-- Adds a job to the answer. `job` has FIELDS.
local function answer(id, job, attempt, text)
  local at = #batch
  batch[at + 1], batch[at + 2] = id, text
  batch[at + 3] = table.concat({
    attempt, job.ran or '0', job.retries or '-', job.failures or '0', job.v or '-', job.quarantine or '-',
    job.mail or '-',
  }, ' ')
end

local last = read(worker_key(worker), { 'claim', 'claimed', 'token', 'quarantine_from' })
local latest = tonumber(last.claim or '0')
if number < latest then return {} end
if number == latest then
  batch[1] = last.token
  for id in string.gmatch(last.claimed or '', '%S+') do
    local job = read(job_key(id), FIELDS)
    if job.token == last.token and job.state == 'running' then
      answer(id, job, (run_of(job)), redis.call('GET', spec_key(id)))
    end
  end
  return #batch > 1 and batch or {}
end

-- Whether this worker gave the job back because it lacks something that the job needs.
local function excluded(id, job)
  return job.lacks and redis.call('SISMEMBER', lacks_key(id), worker) == 1
end

local ids, leases = {}, {}
batch[1] = token

-- Begins an attempt.
local first_run = '1 ' .. now_text
local expiry = time_text(now + lease)
local function begin(id, run)
  redis.call('HSET', job_key(id), 'state', 'running', 'token', token, 'run', run, 'worker', worker)
  local at = #ids
  ids[at + 1] = id
  leases[2 * at + 1], leases[2 * at + 2] = expiry, id
end

-- Begins the first attempt of a job that nothing has happened to.
local function begin_first(id, text)
  begin(id, first_run)
  local at = #batch
  batch[at + 1], batch[at + 2], batch[at + 3] = id, text, '1 0 - 0 - - -'
end

-- Begins an attempt of a job that has a record.
local function begin_next(id, job, text)
  local attempt, run = '1', first_run
  local before, claimed, started = run_of(job)
  if before then
    if not started or started == '' then started = claimed end
    attempt = string.format('%d', tonumber(before) + 1)
    run = attempt .. ' ' .. now_text .. ' ' .. started
  end
  begin(id, run)
  answer(id, job, attempt, text)
end

-- ms between two tokens that a worker puts back on a lane for jobs that exclude it: where no other worker is idle it takes
-- them itself.
local PASS_ON_INTERVAL = 500
local passed_over = false
local function pass_on(lane)
  local since = now - (tonumber(redis.call('HGET', worker_key(worker), 'passed_on')) or 0)
  if since >= 0 and since < PASS_ON_INTERVAL or redis.call('EXISTS', wake_key(lane)) == 1 then return end
  redis.call('HSET', worker_key(worker), 'passed_on', now)
  redis.call('LPUSH', wake_key(lane), '1')
  redis.call('EXPIRE', wake_key(lane), WAKE_EXPIRY)
end

-- Wakes two more workers where this claim is full and leaves jobs, so that all of a large fleet are awake after few claims: a
-- step that admits many jobs wakes only as many workers as could take them if each had some free slots. `left` are entries
-- that this claim looked at and that are not for it.
local function wake_more(lane, left)
  local missing = 2 - redis.call('LLEN', wake_key(lane))
  if missing <= 0 then return end
  local jobs = -left
  for priority = 0, LOWEST_PRIORITY do jobs = jobs + redis.call('XLEN', ready_key(lane, priority)) end
  for _ = 1, math.min(missing, jobs) do redis.call('LPUSH', wake_key(lane), '1') end
  if jobs > 0 then redis.call('EXPIRE', wake_key(lane), WAKE_EXPIRY) end
end

-- The paused queues, read once. A session's own lane has jobs of several queues, so each job is asked for its queue.
local paused, any_paused = {}, false
for _, queue in ipairs(redis.call('HKEYS', PAUSED)) do paused[queue], any_paused = true, true end

-- Entries that a page reads beyond the free slots, so that a few excluded ones at the head do not cost a page each.
local EXTRA = 16

-- Entries of the lane that this claim has looked at and left.
local left = 0

-- Takes jobs from entries `from` to `to` of a page. Most jobs have no record yet: then one call finds that for all.
local function take_entries(entries, from, to, consumed)
  local records, requests = {}, {}
  for at = from, to do
    local id = entries[at][2][2]
    records[#records + 1] = job_key(id)
    requests[#requests + 1] = spec_key(id)
  end
  local any_record = redis.call('EXISTS', unpack(records)) > 0
  local texts = redis.call('MGET', unpack(requests))
  local checks_stops = any_stop()
  for at = from, to do
    local entry, text = entries[at], texts[at - from + 1]
    local id, job = entry[2][2], nil
    if any_record then
      job = read(job_key(id), FIELDS)
      if not job.state then job = nil end
    end
    -- Stale: the job was forgotten, has ended, or has a later entry. The entry of a job that nothing has happened to
    -- since its dispatch is its first.
    local is_stale = not text or text == '' or (job and (job.state ~= 'queued' or job.entry ~= entry[1]))
    local is_left = false
    if not is_stale and job and excluded(id, job) then
      passed_over, is_left = true, true
    elseif not is_stale and (checks_stops or any_paused) then
      local facts = facts_of(id)
      is_left = paused[facts.queue] or stop_root(id, facts.session)
    end
    if is_left then left = left + 1 else consumed[#consumed + 1] = entry[1] end
    if not is_left and not is_stale then
      if job and job.quarantine then
        -- A process of a release without quarantine put it here: it is not alone.
        redis.call('HDEL', job_key(id), 'quarantine')
        job.quarantine = false
      end
      if job then begin_next(id, job, text) else begin_first(id, text) end
    end
  end
end

-- Takes jobs from one page of a stream, from `first` on. Returns where the next page begins, or nil at the end.
local function take(ready, first)
  local wanted = free - #ids + EXTRA
  local entries = redis.call('XRANGE', ready, first, '+', 'COUNT', wanted)
  local consumed, from = {}, 1
  while from <= #entries and #ids < free do
    local to = math.min(#entries, from + free - #ids - 1)
    take_entries(entries, from, to, consumed)
    from = to + 1
  end
  if #consumed > 0 then redis.call('XDEL', ready, unpack(consumed)) end
  if #entries == wanted then return '(' .. entries[#entries][1] end
end

-- Jobs in quarantine that a claim looks at. Where this worker may run none of them, its next claim looks at those behind
-- them, and after the last at the first again.
local QUARANTINED = 100
local KEEPING = { 'keepers', 'keepers_until' }

-- The job in quarantine that waits longest of those which this claim looks at and this worker may run, with its record and
-- since when it waits. Drops jobs that have left it: a process of an earlier release does not.
local function quarantined()
  if redis.call('EXISTS', QUARANTINE) == 0 then return nil end
  local lanes = {}
  for at = FIRST_LANE, #ARGV do lanes[ARGV[at]] = true end
  local from = tonumber(last.quarantine_from) or 0
  local waiting = redis.call('ZRANGE', QUARANTINE, from, from + QUARANTINED - 1, 'WITHSCORES')
  for at = 1, #waiting, 2 do
    local id = waiting[at]
    local job = job_of(id, FIELDS)
    if job.state ~= 'queued' or not job.quarantine then
      redis.call('ZREM', QUARANTINE, id)
    elseif lanes[job.lane] and not paused[job.queue] and not excluded(id, job) and not stop_root(id, job.session) then
      return id, job, tonumber(waiting[at + 1])
    end
  end
  local is_end = #waiting < 2 * QUARANTINED
  if from > 0 or not is_end then
    redis.call('HSET', worker_key(worker), 'quarantine_from', is_end and 0 or from + QUARANTINED)
  end
end

-- Whether this worker keeps itself free for a job in quarantine. For the length of a lease none does: a worker that holds
-- nothing may come. Then one does, and every three leases one more, because the first may hold jobs that run for hours.
-- A time of waiting below zero is from before the clock stepped back.
local function keeps_free(id, since)
  local waited = now - since
  if waited >= 0 and waited < lease then return false end
  local kept = read(job_key(id), KEEPING)
  local keepers, left = kept.keepers or '', (tonumber(kept.keepers_until) or 0) - now
  if string.find(keepers, worker, 1, true) then return true end
  if left > 0 and left <= 3 * lease then return false end
  redis.call('HSET', job_key(id), 'keepers', keepers .. ' ' .. worker, 'keepers_until', time_text(now + 3 * lease))
  return true
end

-- Remembers this claim for its repeat, and against its late copies. A heartbeat sets the expiry of the record; a worker
-- that claims before its first one, and dies, must not leave it forever.
local function remember()
  redis.call('HSET', worker_key(worker), 'claim', number, 'claimed', table.concat(ids, ' '), 'token', token)
  if not last.claim then redis.call('PEXPIRE', worker_key(worker), 3 * lease) end
end

if free > 0 then
  local id, job, since = quarantined()
  if id and is_idle == '1' then
    redis.call('ZREM', QUARANTINE, id)
    redis.call('HDEL', job_key(id), unpack(KEEPING))
    begin_next(id, job, redis.call('GET', spec_key(id)))
    free = #ids
  elseif id and keeps_free(id, since) then
    remember()
    return { 'clear' }
  end
end

-- Pages of one stream that a claim reads at most. One page would let entries that exclude this worker hide the rest
-- forever; without a bound each claim could cost the whole stream.
local PAGES = 20
for lane = FIRST_LANE, #ARGV do
  passed_over, left = false, 0
  for priority = 0, LOWEST_PRIORITY do
    local first = '-'
    for _ = 1, PAGES do
      if #ids >= free or not first or paused[ARGV[lane]] then break end
      first = take(ready_key(ARGV[lane], priority), first)
    end
  end
  if passed_over then pass_on(ARGV[lane]) end
  if #ids > 0 and #ids >= free and not paused[ARGV[lane]] then wake_more(ARGV[lane], left) end
end

remember()
if #ids == 0 then return {} end
redis.call('ZADD', LEASE, unpack(leases))
return batch

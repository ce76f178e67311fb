-- Gives a job back to the queue: its worker drains, or lacks what the job needs.
--
-- Reads first: token and state, then stop marks. A job that is being stopped ends `stopped` instead.
-- Writes: the job on its lane again (drain), or scheduled with this worker excluded (lack). Where every live worker of
-- its lane is excluded, the job ends failed, cause `rejected`.
-- A repeat finds a job that is not held and answers with its state; the token stays with it until the next claim.
--
-- KEYS: tag, job.
-- ARGV: id, token, mode (drain | lack), worker, what it lacks, bytes of output.
-- Replies: {the state that the job has now, 'failed+tree' where the tree below must be swept, or 'lost'}.
local id, token, mode, worker, reason, output_bytes = unpack(ARGV, 1, 6)
local job = job_of(id, ENDING)
if not is_own(job, token) then return { 'lost' } end
if not is_held(job.state) then return { job.state } end
-- A waiting job has run on this worker already, so the worker lacks nothing.
if mode == 'lack' and job.state == 'waiting' then return { job.state } end
local fields = { 'output_bytes', output_bytes }
local root = covering(id, job)
if job.state == 'stopping' or root then
  end_job(id, job, { state = 'stopped', cause = stop_cause(root) or 'operator', fields = fields, root = root })
  return { 'stopped' }
end

local tries = read(job_key(id), { 'run', 'ran', 'lacks', 'worker', 'past' })
local why = mode == 'drain' and 'drained' or 'given_back'
for _, field in ipairs(note_attempt(tries, why, reason)) do fields[#fields + 1] = field end
if mode == 'drain' then
  requeue(id, job, fields)
  return { 'queued' }
end

-- Whether a live worker that is not excluded serves the job's lane, and which live workers are excluded. Dead workers
-- are dropped from the set: their ids never come back.
local function able_and_excluded()
  local excluded, kept, able = { [worker] = true }, { worker }, false
  for _, name in ipairs(redis.call('SMEMBERS', lacks_key(id))) do excluded[name] = true end
  for _, name in ipairs(redis.call('ZRANGE', WORKERS, 0, -1)) do
    local lanes = redis.call('HGET', worker_key(name), 'lanes') or ''
    if excluded[name] then
      kept[#kept + 1] = name
    elseif string.find(' ' .. lanes .. ' ', ' ' .. job.lane .. ' ', 1, true) then
      able = true
    end
  end
  return able, kept
end

local lacks = tonumber(tries.lacks or '0')
fields[#fields + 1] = 'lacks'
fields[#fields + 1] = lacks + 1
-- The set exists from here on; end_job drops it.
job.lacks = true
local able, kept = able_and_excluded()
if not able then
  local tree = end_job(id, job, { state = 'failed', cause = 'rejected', text = reason, fields = fields })
  return { tree and 'failed+tree' or 'failed' }
end
redis.call('DEL', lacks_key(id))
call_in_chunks('SADD', lacks_key(id), kept)
-- Backs off from 1 s to 30 s: a worker that has what is needed may be about to join, and each try costs a claim.
postpone(id, job, now + math.min(30000, 1000 * 2 ^ math.min(lacks, 5)), fields)
return { 'scheduled' }

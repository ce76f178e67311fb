-- A worker hands a job back: drained, or lacking what the job needs.
-- KEYS: tag, job. ARGV: id, token, mode (drain|lack), worker, reason, output bytes.
-- Replies: {state that the job has now} | {'lost'}; 'failed+tree' where a tree must be swept.
local id, token, mode, worker, reason = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local job = read(job_key(id), ENDING)
if job.token ~= token then return { 'lost' } end
if job.state ~= 'running' and job.state ~= 'waiting' and job.state ~= 'stopping' then return { job.state } end
-- A waiting job has run here already, so the worker lacks nothing.
if mode == 'lack' and job.state == 'waiting' then return { job.state } end
local fields = { 'output_bytes', ARGV[6] }
local root = stop_root(id, job.session)
if job.state == 'stopping' or root then
  local why = root and redis.call('HGET', stop_key(root), 'why') or 'operator'
  end_job(id, job, { state = 'stopped', cause = why, fields = fields, root = root })
  settle()
  return { 'stopped' }
end

local books = read(job_key(id), { 'claimed', 'ran', 'lacks' })
local ran = (tonumber(books.ran) or 0) + now - tonumber(books.claimed)
if mode == 'drain' then
  redis.call('HSET', job_key(id), 'state', 'queued', 'ran', ran, unpack(fields))
  -- The token stays, so that a repeat is known; nothing but running grants anything for it.
  redis.call('HDEL', job_key(id), 'worker')
  redis.call('ZREM', LEASE, id)
  admit(id, job.session, job.queue, job.lane, job.priority)
  wake(job.lane, 1)
  return { 'queued' }
end

-- When every live worker of the lane is excluded, the job is rejected. Of the dead nobody need be remembered.
local lacks = tonumber(books.lacks or '0')
local excluded, kept = {}, { worker }
for _, name in ipairs(redis.call('SMEMBERS', lacks_key(id))) do excluded[name] = true end
excluded[worker] = true
local able = false
for _, name in ipairs(redis.call('ZRANGE', WORKERS, 0, -1)) do
  local lanes = redis.call('HGET', worker_key(name), 'lanes') or ''
  if excluded[name] then
    kept[#kept + 1] = name
  elseif string.find(' ' .. lanes .. ' ', ' ' .. job.lane .. ' ', 1, true) then
    able = true
  end
end
redis.call('HSET', job_key(id), 'lacks', lacks + 1, 'ran', ran, unpack(fields))
job.lacks = true
if not able then
  local tree = end_job(id, job, { state = 'failed', cause = 'rejected', text = reason, fields = fields })
  settle()
  return { tree and 'failed+tree' or 'failed' }
end
redis.call('DEL', lacks_key(id))
for first = 1, #kept, 1000 do
  redis.call('SADD', lacks_key(id), unpack(kept, first, math.min(first + 999, #kept)))
end
redis.call('HSET', job_key(id), 'state', 'scheduled')
redis.call('HDEL', job_key(id), 'worker')
redis.call('ZREM', LEASE, id)
leave_queue(id, job)
redis.call('ZADD', SCHEDULED, now + math.min(30000, 1000 * 2 ^ math.min(lacks, 5)), id)
return { 'scheduled' }

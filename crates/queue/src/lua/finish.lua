-- Ends attempts, under their tokens only. The worker has flushed what they wrote.
-- KEYS: tag. ARGV: for each attempt: id, token, outcome (completed|failed|stopped), cause, text, output bytes,
-- input tokens, cached tokens, output tokens, turns, delay of a retry in ms, raw id, 1 where another try may end
-- otherwise.
-- Replies: for each: the state that the job has now, 'lost', or 'failed+tree' where a tree must be swept.
local STRIDE = 13
local replies = {}
for n = 0, #ARGV / STRIDE - 1 do
  local at = 1 + n * STRIDE
  local id, token, outcome = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local job = read(job_key(id), ENDING)
  local state = job.state
  if job.token ~= token or state == 'reaping' or state == 'queued' then
    replies[n + 1] = 'lost'
  elseif state ~= 'running' and state ~= 'waiting' and state ~= 'stopping' then
    replies[n + 1] = state
  else
    local fields = {
      'output_bytes', ARGV[at + 5], 'input_tokens', ARGV[at + 6], 'cached_tokens', ARGV[at + 7],
      'output_tokens', ARGV[at + 8], 'turns', ARGV[at + 9],
    }
    local root = stop_root(id, job.session)
    local retries = 0
    if outcome == 'failed' and ARGV[at + 12] == '1' and state ~= 'stopping' and not root then
      retries = tonumber(redis.call('HGET', job_key(id), 'retries') or '0')
    end
    if retries > 0 then
      local claimed = redis.call('HMGET', job_key(id), 'claimed', 'ran')
      redis.call('HINCRBY', job_key(id), 'failures', 1)
      redis.call('HSET', job_key(id), 'state', 'scheduled', 'retries', retries - 1,
        'ran', (tonumber(claimed[2]) or 0) + now - tonumber(claimed[1]), unpack(fields))
      -- The token stays, so that a repeat is known; nothing but running grants anything for it.
      redis.call('HDEL', job_key(id), 'worker')
      redis.call('SET', result_key(id), ARGV[at + 4])
      redis.call('ZREM', LEASE, id)
      leave_queue(id, job)
      redis.call('ZADD', SCHEDULED, now + tonumber(ARGV[at + 10]), id)
      replies[n + 1] = 'scheduled'
    else
      local ending = { state = outcome, cause = ARGV[at + 3] ~= '' and ARGV[at + 3] or nil, text = ARGV[at + 4], raw = ARGV[at + 11] }
      if state == 'stopping' or root then
        ending.state = 'stopped'
        ending.cause = root and redis.call('HGET', stop_key(root), 'why') or ending.cause or 'operator'
        ending.text = ''
        ending.root = root
      end
      ending.fields = fields
      replies[n + 1] = end_job(id, job, ending) and 'failed+tree' or ending.state
    end
  end
end
settle()
return replies

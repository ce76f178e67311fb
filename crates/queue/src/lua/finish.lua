-- Ends attempts, each under its token. The worker has flushed their output and turns before.
--
-- Reads first: token and state of the record, then stop marks. A job that is being stopped ends `stopped`, whatever its
-- attempt reports, and is not retried.
-- Writes: the end of the job (end_job), or the schedule of its retry. Nothing where it has mail to hear first.
-- A repeat finds a job that is not held and answers with its state. Only under another token it is `lost`.
--
-- KEYS: tag.
-- ARGV: for each attempt: id, token, outcome (completed | failed | stopped), cause ('' for none), result or error,
--   bytes of output, input tokens, cached tokens, output tokens, turns, delay of a retry in ms, id as 16 bytes, 1 if
--   its cause is retryable, 1 if the attempt hears mail that is sent to it.
-- Replies: for each attempt the state that the job has now, 'failed+tree' where the tree below must be swept, 'mail'
--   where it completes no sooner than its agent has heard the mail that is there, or 'lost'.
local STRIDE = 14
local replies = {}
for n = 0, #ARGV / STRIDE - 1 do
  local first = 1 + n * STRIDE
  local id, token, outcome, cause, text, output_bytes, input_tokens, cached_tokens, output_tokens, turns, retry_delay,
    raw_id, is_retryable, hears_mail = unpack(ARGV, first, first + STRIDE - 1)
  local job = read(job_key(id), ENDING)
  if job.token ~= token or job.state == 'reaping' or job.state == 'queued' then
    replies[n + 1] = 'lost'
  elseif not is_held(job.state) then
    replies[n + 1] = job.state
  elseif outcome == 'completed' and hears_mail == '1' and job.mail and job.state ~= 'stopping'
    and redis.call('EXISTS', mailbox_key(id)) == 1 and not stop_root(id, job.session) then
    -- A sender was answered `sent`: the job hears it before it ends. A stop outranks mail.
    replies[n + 1] = 'mail'
  else
    local fields = {
      'output_bytes', output_bytes, 'input_tokens', input_tokens, 'cached_tokens', cached_tokens, 'output_tokens',
      output_tokens, 'turns', turns,
    }
    local root = stop_root(id, job.session)
    local is_stopping = job.state == 'stopping' or root
    local tries = { retries = '0' }
    if outcome == 'failed' and is_retryable == '1' and not is_stopping then
      tries = read(job_key(id), { 'retries', 'claimed', 'ran', 'attempt', 'worker', 'past' })
    end
    local retries = tonumber(tries.retries or '0')
    if retries > 0 then
      fields[#fields + 1] = 'retries'
      fields[#fields + 1] = retries - 1
      for _, field in ipairs(note_attempt(tries, 'failed', text)) do fields[#fields + 1] = field end
      redis.call('HINCRBY', job_key(id), 'failures', 1)
      -- Shown until the retry ends.
      redis.call('SET', result_key(id), text)
      postpone(id, job, now + tonumber(retry_delay), fields)
      replies[n + 1] = 'scheduled'
    else
      local ending = { state = outcome, text = text, fields = fields, raw = raw_id }
      if cause ~= '' then ending.cause = cause end
      if is_stopping then
        ending.state = 'stopped'
        ending.cause = stop_cause(root) or ending.cause or 'operator'
        ending.text = ''
        ending.root = root
      end
      replies[n + 1] = end_job(id, job, ending) and 'failed+tree' or ending.state
    end
  end
end
return replies

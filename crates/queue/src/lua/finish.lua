-- Ends attempts, each under its token. The worker has flushed their output and turns before.
--
-- Reads first: token and state of the record, then stop marks. A job that is being stopped ends `stopped`, whatever its
-- attempt reports, and is not retried.
-- Writes: the end of the job (end_job), or the schedule of its retry. Nothing where it has mail to hear first.
-- A repeat finds a job that is not held and answers with its state. Only under another token it is `lost`.
--
-- KEYS: tag.
-- ARGV: for each attempt: id, id as 16 bytes, token, how it ended, result or error, usage. How it ended has, separated by
--   spaces, outcome (completed | failed | stopped), cause (`-` for none), delay of a retry in ms, 1 if its cause is
--   retryable, 1 if the attempt hears mail that is sent to it, then the session (`-` to read it) and the
--   dispatcher (`-` for the root) of its facts. The usage is stored as it is: bytes of output, input
--   tokens, cached tokens, output tokens, turns.
-- Replies: for each attempt the state that the job has now, 'failed+tree' where the tree below must be swept, 'mail'
--   where it completes no sooner than its agent has heard the mail that is there, or 'lost'.
local STRIDE = 6
local HOW = '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$'
-- Mostly all jobs of a call end in the same way.
local known_ways = {}
local replies = {}
for n = 0, #ARGV / STRIDE - 1 do
  local first = 1 + n * STRIDE
  local id, raw_id, token, how, text, usage = unpack(ARGV, first, first + STRIDE - 1)
  local ways = known_ways[how]
  if not ways then
    ways = { string.match(how, HOW) }
    known_ways[how] = ways
  end
  local outcome, cause, retry_delay, is_retryable, hears_mail, sid, parent = unpack(ways)
  local job = job_of(id, ENDING)
  if sid ~= '-' then job.session, job.parent = sid, parent ~= '-' and parent end
  if job.token ~= token or job.state == 'reaping' or job.state == 'queued' then
    replies[n + 1] = 'lost'
  elseif not is_held(job.state) then
    replies[n + 1] = job.state
  elseif outcome == 'completed' and hears_mail == '1' and job.mail and job.state ~= 'stopping'
    and redis.call('EXISTS', mailbox_key(id)) == 1 and not covering(id, job) then
    -- A sender was answered `sent`: the job hears it before it ends. A stop outranks mail.
    replies[n + 1] = 'mail'
  else
    local fields = { 'usage', usage }
    local root = covering(id, job)
    local is_stopping = job.state == 'stopping' or root
    local tries, retries = nil, 0
    if outcome == 'failed' and is_retryable == '1' and not is_stopping then
      tries = read(job_key(id), { 'retries', 'run', 'ran', 'worker', 'past' })
      retries = tonumber(tries.retries or job.retries or '0')
    end
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
      if cause ~= '-' then ending.cause = cause end
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

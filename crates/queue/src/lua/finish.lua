-- Ends attempts, each under its token. The worker has flushed their output and turns before.
--
-- Reads first: token and state of the record, then stop marks. A job that is being stopped ends `stopped`, whatever its
-- attempt reports, and is not retried.
-- Writes: the end of the job (end_job) with its seal, or the schedule of its retry. Nothing where it has mail to hear first. A result that
-- is the end of the output is not stored: the record has its length (stored/record.rs), and version 3.
-- A repeat finds a job that is not held and answers with its state. Only under another token it is `lost`. A repeat whose
-- result turned out to be missing in the output stores it.
--
-- KEYS: tag.
-- ARGV: for each attempt: id, id as 16 bytes, token, how it ended, result or error, usage, what its output holds,
--   seal ('' for none).
--   How it ended has, separated by spaces, outcome (completed | failed | stopped), cause (`-` for none), delay of a retry in ms, 1 if its cause is
--   retryable, 1 if the attempt hears mail that is sent to it, then the session (`-` to read it) and the
--   dispatcher (`-` for the root) of its facts. The usage is stored as it is: bytes of output, input
--   tokens, cached tokens, output tokens, turns, and bytes of a result that the output holds. What that holds is '' for
--   nothing, 'result', 'turns ' and the origin of the one reply for result and turns, or 'missing' for a result of an
--   earlier call that it does not hold.
-- Replies: for each attempt the state that the job has now, 'failed+tree' where the tree below must be swept, 'mail'
--   where it completes no sooner than its agent has heard the mail that is there, or 'lost'.
local STRIDE = 8

-- Adds to the fields of an end what the record holds in place of result and turns.
local function refer(fields, held)
  local at = #fields
  fields[at + 1], fields[at + 2] = 'v', '3'
  local origin = string.match(held, '^turns (.+)$')
  if origin then fields[at + 3], fields[at + 4] = 'reply', origin end
end

-- Stores a result that the output should have held.
local function store_missing(id, text, usage)
  redis.call('SET', result_key(id), text)
  redis.call('HSET', job_key(id), 'usage', usage)
  redis.call('HDEL', job_key(id), 'reply')
end

local HOW = '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$'
-- Mostly all jobs of a call end in the same way.
local known_ways = {}
local replies = {}
for n = 0, #ARGV / STRIDE - 1 do
  local first = 1 + n * STRIDE
  local id, raw_id, token, how, text, usage, held, seal = unpack(ARGV, first, first + STRIDE - 1)
  local ways = known_ways[how]
  if not ways then
    ways = { string.match(how, HOW) }
    known_ways[how] = ways
  end
  local outcome, cause, retry_delay, is_retryable, hears_mail, sid, parent = unpack(ways)
  local job = job_of(id, ENDING)
  if sid ~= '-' then job.session, job.parent = sid, parent ~= '-' and parent end
  if not is_own(job, token) or job.state == 'reaping' or job.state == 'queued' then
    replies[n + 1] = 'lost'
  elseif not is_held(job.state) then
    if held == 'missing' and job.state == 'completed' then store_missing(id, text, usage) end
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
      fields[#fields + 1], fields[#fields + 2] = 'token', string.sub(token, 1, KEPT_TOKEN)
      if cause ~= '-' then ending.cause = cause end
      if held ~= '' and not is_stopping then refer(fields, held) end
      if is_stopping then
        ending.state = 'stopped'
        ending.cause = stop_cause(root) or ending.cause or 'operator'
        ending.text = ''
        ending.root = root
      elseif seal ~= '' then
        -- Of this end and no other: that of an attempt that is retried is not kept.
        fields[#fields + 1], fields[#fields + 2] = 'seal', seal
      end
      replies[n + 1] = end_job(id, job, ending) and 'failed+tree' or ending.state
    end
  end
end
return replies

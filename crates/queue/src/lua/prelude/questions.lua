-- Questions of jobs to people. A job's questions are a hash, by number: each with its time, its end and its text, and its
-- answer once there is one.

-- What is recorded for a question that no one answered in time.
local EXPIRED = '{"verdict":"expired"}'

-- Milliseconds until a question expires; 0 or less once it has.
local function left_to_answer(questions, number)
  local stored = redis.call('HGET', questions, 'question:' .. number) or ''
  local expires = string.match(stored, '^%d+ (%d+) ')
  return (tonumber(expires) or 0) - now
end

-- Takes a job off those that ask, once all its questions have answers.
local function forget_if_answered(id, questions)
  local asked = tonumber(redis.call('HGET', questions, 'asked') or '0')
  for number = 1, asked do
    if redis.call('HEXISTS', questions, 'answer:' .. number) == 0 then return end
  end
  redis.call('ZREM', ASKING, id)
end

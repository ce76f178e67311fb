-- Questions of jobs to people. A job's questions are a hash, by number: each with its time, its end and its text, and its
-- answer once there is one. All below `first_open` have answers; a process of an earlier release does not move it.

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
  local stored = read(questions, { 'asked', 'first_open' })
  local asked, first = tonumber(stored.asked or '0'), tonumber(stored.first_open or '1')
  while first <= asked and redis.call('HEXISTS', questions, 'answer:' .. first) == 1 do first = first + 1 end
  redis.call('HSET', questions, 'first_open', first)
  if first > asked then redis.call('ZREM', ASKING, id) end
end

-- Stores a question of a job for a person, or answers what was decided about it.
--
-- Reads first: the attempt, and the question under the place of its call: an attempt that resumes asks again.
-- Writes: the question with its number, the job's mark, and its place among the jobs that ask; or, once its time is over,
-- that no one answered.
-- A repeat finds the question, and its answer where there is one.
--
-- KEYS: tag, job.
-- ARGV: id, token, place of the call, question, time until it expires in ms.
-- Replies: {'open', number, ms until it expires} | {'answered', answer} | {stopping} | {lost}.
local id, token, place_of_call, question, expiry = unpack(ARGV, 1, 5)
local job = job_of(id, { 'state', 'token' })
if job.token ~= token or not is_held(job.state) then return { 'lost' } end
if job.state == 'stopping' or covering(id, job) then return { 'stopping' } end
local questions = questions_key(id)
local number = redis.call('HGET', questions, 'call:' .. place_of_call)
if number then
  local answer = redis.call('HGET', questions, 'answer:' .. number)
  if answer then return { 'answered', answer } end
  local left = left_to_answer(questions, number)
  if left > 0 then return { 'open', number, time_text(left) } end
  redis.call('HSET', questions, 'answer:' .. number, EXPIRED)
  forget_if_answered(id, questions)
  return { 'answered', EXPIRED }
end
number = redis.call('HINCRBY', questions, 'asked', 1)
redis.call('HSET', questions, 'call:' .. place_of_call, number, 'question:' .. number,
  now_text .. ' ' .. time_text(now + tonumber(expiry)) .. ' ' .. question)
redis.call('HSET', job_key(id), 'asks', 1)
redis.call('ZADD', ASKING, 'NX', now, id)
return { 'open', number, expiry }

-- Records a person's answer to a question of a job. The first answer counts.
--
-- Reads first: the job's state, because a job that has ended or is being stopped acts on no answer; then the question.
-- Writes: the answer, and a hint for the worker that waits for it. An answer that comes too late is not recorded.
-- A repeat finds the answer.
--
-- KEYS: tag, job.
-- ARGV: id, number of the question, answer.
-- Replies: {'recorded'} | {'answered', the first answer} | {'state', state} | {'unasked'} | {'missing'}.
local id, number, answer = unpack(ARGV, 1, 3)
local job = job_of(id, { 'state' })
if not job.state then return { 'missing' } end
if is_terminal(job.state) then return { 'state', job.state } end
local questions = questions_key(id)
if redis.call('HEXISTS', questions, 'question:' .. number) == 0 then return { 'unasked' } end
local first = redis.call('HGET', questions, 'answer:' .. number)
if first then return { 'answered', first } end
if job.state == 'stopping' or covering(id, job) then return { 'state', 'stopping' } end
local is_late = left_to_answer(questions, number) <= 0
redis.call('HSET', questions, 'answer:' .. number, is_late and EXPIRED or answer)
forget_if_answered(id, questions)
redis.call('PUBLISH', session_channel(job.session), id)
if is_late then return { 'answered', EXPIRED } end
return { 'recorded' }

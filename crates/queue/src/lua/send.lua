-- Puts a message into a job's mailbox.
--
-- Reads first: the job's state, because a job that ended would keep the mailbox forever; the key of the request; then
-- the stop marks, because a job that is being stopped hears no more.
-- Writes: the mailbox, and the key for as long as an ended job is kept: longer than any repeat takes.
-- A repeat finds the key of its request and sends nothing.
--
-- KEYS: tag, job.
-- ARGV: id, message, key of the request, retention in ms, seal of the message ('' for none).
-- Replies: {'sent'} | {'state', state that takes no messages} | {'missing'}.
local id, message, request, retention, seal = unpack(ARGV, 1, 5)
local job = job_of(id, { 'state' })
local state = job.state
if not state then return { 'missing' } end
if redis.call('EXISTS', idempotency_key(request)) == 1 then return { 'sent' } end
if is_terminal(state) or state == 'stopping' then return { 'state', state } end
if covering(id, job) then return { 'state', 'stopping' } end
if seal ~= '' then
  redis.call('XADD', mailbox_key(id), '*', 'message', message, 'seal', seal)
else
  redis.call('XADD', mailbox_key(id), '*', 'message', message)
end
keep(id, job)
redis.call('HSET', job_key(id), 'mail', 1)
redis.call('SET', idempotency_key(request), 'sent', 'PX', retention)
return { 'sent' }

-- Puts a message into a running job's mailbox, once for each request.
-- KEYS: tag, job. ARGV: id, message, request hash, retention in ms.
-- Replies: {'sent'} | {'state', state} | {'missing'}.
local id, once = ARGV[1], idempotency_key(ARGV[3])
local state = redis.call('HGET', job_key(id), 'state')
if not state then return { 'missing' } end
if redis.call('EXISTS', once) == 1 then return { 'sent' } end
if state == 'completed' or state == 'failed' or state == 'stopped' or state == 'stopping' then
  return { 'state', state }
end
redis.call('XADD', mailbox_key(id), '*', 'message', ARGV[2])
redis.call('HSET', job_key(id), 'mail', 1)
redis.call('SET', once, 'sent', 'PX', ARGV[4])
return { 'sent' }

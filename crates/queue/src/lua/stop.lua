-- Writes the stop mark of a tree. It is durable when this answers; the sweep ends the records below.
-- KEYS: tag. ARGV: root, kind (job|session), who asks ('' for an operator), why, close ('1' refuses later
-- dispatches into a session).
-- Replies: {'marked', why} | {'ended', state} | {'missing'}.
local root, kind, who, why = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if kind == 'job' then
  local state = redis.call('HGET', job_key(root), 'state')
  if not state then return { 'missing' } end
  if state == 'completed' or state == 'failed' or state == 'stopped' then return { 'ended', state } end
else
  if redis.call('EXISTS', session_key(root)) == 0 then return { 'missing' } end
  if ARGV[5] == '1' then redis.call('HSET', session_key(root), 'closed', 1) end
end
if redis.call('HSETNX', stop_key(root), 'why', why) == 1 and who ~= '' then
  redis.call('HSET', stop_key(root), 'who', who)
end
redis.call('HSET', stop_key(root), 'kind', kind, 'asked', stamp)
redis.call('ZADD', STOPS, 'NX', now, root)
redis.call('PUBLISH', STOP_CHANNEL, root)
return { 'marked', redis.call('HGET', stop_key(root), 'why') }

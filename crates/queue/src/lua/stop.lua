-- Marks the tree below a job or a session as being stopped. The mark is durable when this answers; `sweep` then ends
-- the records below it.
--
-- Reads first: whether the job or session exists, and has not ended.
-- Writes: the mark, and a hint to the workers: the root, followed by `alone` for a job that has dispatched none, so that
-- only the worker that holds it has something to do. Where asked, closes the session, so that no later dispatch escapes.
-- A repeat renews the request of the mark; cause and asker stay the first one's.
--
-- KEYS: tag.
-- ARGV: root, kind (job | session), asker ('' for an operator), cause, 1 to close the session.
-- Replies: {'marked', the cause that counts} | {'ended', state} | {'missing'}.
local root, kind, asker, cause, closes = unpack(ARGV, 1, 5)
local hint = root
if kind == 'job' then
  local job = job_of(root, { 'state', 'dispatched' })
  if not job.state then return { 'missing' } end
  if is_terminal(job.state) then return { 'ended', job.state } end
  if not job.dispatched then hint = root .. ' alone' end
else
  if redis.call('EXISTS', session_key(root)) == 0 then return { 'missing' } end
  if closes == '1' then redis.call('HSET', session_key(root), 'closed', 1) end
end
mark_stop(root, kind, cause, asker ~= '' and asker or nil)
redis.call('PUBLISH', STOP_CHANNEL, hint)
return { 'marked', stop_cause(root) }

-- Ends the quarantine of a running job: it has finished a turn since the last crash.
--
-- Reads first: token and state. Only the attempt that holds the job may say so.
-- Writes: the job's record.
-- A repeat finds no quarantine and answers as the first time.
--
-- KEYS: tag, job.
-- ARGV: id, token.
-- Replies: left | lost.
local id, token = unpack(ARGV, 1, 2)
if not holds(id, token) then return 'lost' end
redis.call('HDEL', job_key(id), 'quarantine')
return 'left'

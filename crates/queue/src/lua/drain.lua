-- Asks a worker to drain: its next heartbeat is answered with it.
--
-- Writes: the worker's record, unless that is gone. The mark ends with the record.
-- A repeat writes the same again.
--
-- KEYS: tag, the worker's record.
-- ARGV: worker.
-- Replies: 1 | 0 where there is no such worker.
local worker = ARGV[1]
if not redis.call('ZSCORE', WORKERS, worker) then return 0 end
redis.call('HSET', worker_key(worker), 'drain', now)
return 1

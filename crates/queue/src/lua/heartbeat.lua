-- A worker's heartbeat in a shard, or its goodbye.
--
-- Writes: the worker's record and its place in the fleet. A worker that died is removed by the heartbeat of any other
-- three leases later; a fleet that died as a whole expires after four.
-- A repeat writes the same again.
--
-- KEYS: tag.
-- ARGV: worker, lease in ms, mode (alive | gone), then fields and values of its record.
-- Replies: alive | drain, where an operator wants the worker to end | gone.
local worker, lease, mode = unpack(ARGV, 1, 3)
local FIRST_FIELD = 4
lease = tonumber(lease)
-- Dead workers that one heartbeat removes: a large fleet that died at once must not make it slow.
local PAGE_SIZE = 20
for _, dead in ipairs(redis.call('ZRANGEBYSCORE', WORKERS, '-inf', now - 3 * lease, 'LIMIT', 0, PAGE_SIZE)) do
  redis.call('ZREM', WORKERS, dead)
end
-- A heartbeat from a time that is still to come was sent before the clock stepped back. It counts as sent now, so that a
-- dead worker is removed three leases from now. More than a second, because a clock that is slewed changes nothing.
for _, early in ipairs(redis.call('ZRANGEBYSCORE', WORKERS, now + 1000, '+inf', 'LIMIT', 0, PAGE_SIZE)) do
  redis.call('ZADD', WORKERS, now, early)
end
if mode == 'gone' then
  redis.call('ZREM', WORKERS, worker)
  -- The record stays for as long as after a last heartbeat, with the number of the last claim: an earlier claim that is
  -- still on its way takes nothing.
  redis.call('PEXPIRE', worker_key(worker), 3 * lease)
  return 'gone'
end
redis.call('ZADD', WORKERS, now, worker)
redis.call('PEXPIRE', WORKERS, 4 * lease)
redis.call('HSET', worker_key(worker), 'seen', now, unpack(ARGV, FIRST_FIELD))
redis.call('HSETNX', worker_key(worker), 'began', now)
redis.call('PEXPIRE', worker_key(worker), 3 * lease)
if redis.call('HEXISTS', worker_key(worker), 'drain') == 1 then return 'drain' end
return 'alive'

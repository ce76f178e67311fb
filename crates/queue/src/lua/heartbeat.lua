-- A worker's heartbeat in a shard: its place in the fleet.
-- KEYS: tag. ARGV: worker, time to live in ms, mode (alive|gone), then fields and values of its record.
local worker, ttl = ARGV[1], tonumber(ARGV[2])
for _, dead in ipairs(redis.call('ZRANGEBYSCORE', WORKERS, '-inf', now - 3 * ttl, 'LIMIT', 0, 20)) do
  redis.call('ZREM', WORKERS, dead)
end
if ARGV[3] == 'gone' then
  redis.call('ZREM', WORKERS, worker)
  redis.call('DEL', worker_key(worker))
  return 'gone'
end
redis.call('ZADD', WORKERS, now, worker)
-- Of a fleet that died as a whole nobody removes the members.
redis.call('PEXPIRE', WORKERS, 4 * ttl)
redis.call('HSET', worker_key(worker), 'seen', now, unpack(ARGV, 4))
redis.call('PEXPIRE', worker_key(worker), 3 * ttl)
return 'alive'

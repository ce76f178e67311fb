-- Stores a team before its first job. Until a job counts it, it lives for an hour.
-- KEYS: tag, team. ARGV: JSON.
if redis.call('HSETNX', KEYS[2], 'json', ARGV[1]) == 1 then
  redis.call('HSET', KEYS[2], 'jobs', 0)
end
if redis.call('HGET', KEYS[2], 'jobs') == '0' then redis.call('EXPIRE', KEYS[2], 3600) end
return 'stored'

-- Stores a resolved team before its first job.
--
-- Writes: the team and a count of 0 jobs. Until a job counts it, it expires an hour after it was last stored: long
-- enough for the `enqueue` that follows, and a caller that died leaves nothing behind.
-- A repeat finds the team and only restarts that hour.
--
-- KEYS: tag, team.
-- ARGV: the team as JSON.
-- Replies: stored.
local team, json = KEYS[2], ARGV[1]
local EXPIRY = 3600
if redis.call('HSETNX', team, 'json', json) == 1 then redis.call('HSET', team, 'jobs', 0) end
if redis.call('HGET', team, 'jobs') == '0' then redis.call('EXPIRE', team, EXPIRY) end
return 'stored'

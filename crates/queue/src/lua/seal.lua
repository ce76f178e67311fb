-- The second part of reaping: seals the fence of an attempt, so that its output grows no more and can be counted.
--
-- Reads first: the attempt of the fence. That of a later attempt stays open: another reaper was faster.
-- Writes: the seal, and drops the token.
-- A repeat seals again.
--
-- KEYS: output, turns, fence.
-- ARGV: attempt.
-- Replies: {bytes of output, finished turns}.
local output_key, fence_key = KEYS[1], KEYS[3]
local attempt = ARGV[1]
local current, finished = unpack(redis.call('HMGET', fence_key, 'attempt', 'finished'))
if tonumber(current or '0') <= tonumber(attempt) then
  redis.call('HSET', fence_key, 'attempt', attempt, 'sealed', 1)
  redis.call('HDEL', fence_key, 'token')
end
return { redis.call('STRLEN', output_key), tonumber(finished or '0') }

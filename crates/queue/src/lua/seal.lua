-- Seals the fence of an attempt that is being taken back, so that its output can be counted.
-- KEYS: output, turns, fence. ARGV: attempt.
-- Replies: {output length, finished turns}.
local fence = redis.call('HMGET', KEYS[3], 'attempt', 'finished')
if tonumber(fence[1] or '0') <= tonumber(ARGV[1]) then
  redis.call('HSET', KEYS[3], 'attempt', ARGV[1], 'sealed', 1)
  redis.call('HDEL', KEYS[3], 'token')
end
return { redis.call('STRLEN', KEYS[1]), tonumber(fence[2] or '0') }

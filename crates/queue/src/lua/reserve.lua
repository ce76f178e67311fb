-- Takes over a key of the whole namespace that a caller reserved and did not use.
-- KEYS: key. ARGV: the reservation to replace, the new one.
-- Replies: the reservation that holds now.
local current = redis.call('GET', KEYS[1])
if current and current ~= ARGV[1] then return current end
redis.call('SET', KEYS[1], ARGV[2])
return ARGV[2]

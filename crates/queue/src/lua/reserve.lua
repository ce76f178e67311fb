-- Takes over an idempotency key of the namespace whose reservation did not lead to a stored job.
--
-- Reads first: the reservation that holds now. Only the one that the caller judged may be replaced: another caller may
-- have been faster.
-- Writes: the new reservation.
-- A repeat finds its own reservation in place of the one to replace, and is answered with it.
--
-- KEYS: key.
-- ARGV: the reservation to replace, the new one.
-- Replies: the reservation that holds now.
local key = KEYS[1]
local expected, replacement = unpack(ARGV, 1, 2)
local current = redis.call('GET', key)
if current and current ~= expected then return current end
redis.call('SET', key, replacement)
return replacement

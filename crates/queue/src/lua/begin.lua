-- Sets the fence of a job for a new attempt, and reads what earlier attempts left below the job's own tag.
--
-- Reads first: the fence, which never moves back: a later attempt may have begun while this call was on its way.
-- Writes: attempt and token of the fence, unsealed.
-- A repeat of the same attempt sets the same fence.
--
-- KEYS: output, turns, fence.
-- ARGV: attempt, token.
-- Replies: {'begun', bytes of output, turn entries, finished turns} | {'stale'}.
local turns_key, output_key, fence_key = KEYS[2], KEYS[1], KEYS[3]
local attempt, token = unpack(ARGV, 1, 2)
attempt = tonumber(attempt)
local current, current_token, finished = unpack(redis.call('HMGET', fence_key, 'attempt', 'token', 'finished'))
current = tonumber(current or '0')
if current > attempt or (current == attempt and current_token ~= token) then return { 'stale' } end
redis.call('HSET', fence_key, 'attempt', attempt, 'token', token, 'sealed', 0, 'waits_for', '')
-- Nothing can be there before the first fence.
if attempt == 1 and current == 0 then return { 'begun', 0, 0, 0 } end
return { 'begun', redis.call('STRLEN', output_key), redis.call('LLEN', turns_key), tonumber(finished or '0') }

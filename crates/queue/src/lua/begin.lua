-- Sets the fence of a job for a new attempt, never backwards.
-- KEYS: output, turns, fence. ARGV: attempt, token.
-- Replies: {'begun', output length, last turn entry id or '', finished turns} or {'stale'}.
local attempt, token = tonumber(ARGV[1]), ARGV[2]
local fence = redis.call('HMGET', KEYS[3], 'attempt', 'token', 'finished')
local current = tonumber(fence[1] or '0')
if current > attempt or (current == attempt and fence[2] ~= token) then return { 'stale' } end
redis.call('HSET', KEYS[3], 'attempt', attempt, 'token', token, 'sealed', 0, 'waits', '')
if attempt == 1 and current == 0 then return { 'begun', 0, '', 0 } end
local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
return { 'begun', redis.call('STRLEN', KEYS[1]), last and last[1] or '', tonumber(fence[3] or '0') }

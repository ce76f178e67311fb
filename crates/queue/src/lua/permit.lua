-- One limit of a model provider, for the whole fleet: places in line for calls and for tokens, calls in
-- flight, and a pause that the provider asked for.
-- KEYS: limit, its calls in flight. ARGV: mode, permit, then
--   take:    the time it was told to come (0 for a first call), ms between calls, ms that its tokens are worth,
--            ms of tokens that may come at once, calls at once (0 for any), ms until a permit ends by itself.
--   renew:   ms until it ends by itself.
--   return:  ms that its tokens were worth beyond what it took.
--   pause:   ms that the provider asked for (0 if it did not say), the longest pause in ms.
-- Replies: take: {'go'} | {'wait', ms, time to come, why}; the others: {'done'}.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local mode, permit = ARGV[1], ARGV[2]
-- After a refusal calls are spaced by at least this, doubled with each further one, halved with each quiet spell.
local FIRST_SPACING, MOST_SPACING, QUIET = 100, 10000, 30000
local KEPT = 7200000
local fields = redis.call('HMGET', KEYS[1], 'next', 'next_tokens', 'paused', 'spacing', 'refused')
local next_call, next_tokens = tonumber(fields[1]) or 0, tonumber(fields[2]) or 0
local paused, spacing, refused = tonumber(fields[3]) or 0, tonumber(fields[4]) or 0, tonumber(fields[5]) or 0

local function keep(...)
  redis.call('HSET', KEYS[1], ...)
  redis.call('PEXPIRE', KEYS[1], KEPT)
end

if mode == 'renew' then
  redis.call('ZADD', KEYS[2], 'XX', now + tonumber(ARGV[3]), permit)
  return { 'done' }
end

if mode == 'return' then
  redis.call('ZREM', KEYS[2], permit)
  local beyond = tonumber(ARGV[3])
  if beyond ~= 0 then keep('next_tokens', math.floor(math.max(now, next_tokens) + beyond)) end
  return { 'done' }
end

if mode == 'pause' then
  redis.call('ZREM', KEYS[2], permit)
  -- Refusals of calls that were in flight together are one.
  if now >= paused then
    spacing = math.min(MOST_SPACING, math.max(FIRST_SPACING, spacing * 2))
  end
  local asked = tonumber(ARGV[3])
  if asked == 0 then asked = 10 * spacing end
  keep('paused', math.max(paused, now + math.min(asked, tonumber(ARGV[4]))), 'spacing', spacing, 'refused', now)
  return { 'done' }
end

local due, interval = tonumber(ARGV[3]), tonumber(ARGV[4])
local worth, tokens_burst = tonumber(ARGV[5]), tonumber(ARGV[6])
local most, lasts = tonumber(ARGV[7]), tonumber(ARGV[8])
while spacing > 0 and now - refused > QUIET do
  spacing = spacing > FIRST_SPACING and spacing / 2 or 0
  refused = refused + QUIET
  keep('spacing', spacing, 'refused', refused)
end
-- A place in line that was given before the pause began is void.
local why = 'rate'
if due == 0 or due < paused then
  local gap = math.max(interval, spacing)
  local at = math.max(now, paused, next_call, next_tokens - tokens_burst)
  if at == paused and paused > now then why = 'paused' end
  if gap > 0 or worth > 0 then
    keep('next', math.floor(math.max(now, paused, next_call) + gap), 'next_tokens', math.floor(math.max(now, next_tokens) + worth))
  end
  due = math.floor(at)
end
if due > now then
  if paused > now then why = 'paused' end
  return { 'wait', due - now, due, why }
end
if most > 0 then
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
  if redis.call('ZCARD', KEYS[2]) >= most and not redis.call('ZSCORE', KEYS[2], permit) then
    return { 'wait', 0, due, 'busy' }
  end
  redis.call('ZADD', KEYS[2], now + lasts, permit)
  redis.call('PEXPIRE', KEYS[2], KEPT)
end
return { 'go' }

-- One limit of a model provider for the whole fleet: a place in line for calls and for tokens, the calls in flight, and
-- the pause that a provider asked for.
--
-- Reads first: the limit. A place in line that was given before a pause began is void.
-- Writes: the line (`next`, `next_tokens`: when the next call may start), calls in flight, the pause.
-- A repeat of `take` with the same permit finds it in flight, and a call that comes back at the time it was given takes
-- no second place in line. A repeat of `return` counts its tokens again, and one of `pause` starts the pause again:
-- both only make the fleet slower for a moment.
--
-- KEYS: limit, its calls in flight.
-- ARGV: mode, permit, then
--   take:   the time it was given to come at (0 for a first call), ms between calls, ms that its tokens are worth, ms
--           of tokens that may be taken at once, calls in flight at once (0 for any), ms until a permit expires.
--   renew:  ms until it expires.
--   return: ms that its tokens were worth beyond what it took; negative where it took too much.
--   pause:  ms that the provider asked for (0 if it named no time), the longest pause in ms.
-- Replies: take: {'go'} | {'wait', ms, time to come at, rate | paused | busy}; the others: {'done'}.
local limit_key, calls_key = KEYS[1], KEYS[2]
local mode, permit = unpack(ARGV, 1, 2)
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
-- After a refusal calls are spaced: by FIRST_SPACING ms, twice as much with each further refusal up to MAX_SPACING,
-- half as much after each QUIET ms without one. The first spacing hardly slows a provider that refused once; the last
-- one still shows every few seconds whether the provider has recovered.
local FIRST_SPACING, MAX_SPACING, QUIET = 100, 10000, 30000
-- ms after its last use that a limit is forgotten: far more than the longest pause, a minute.
local EXPIRY = 7200000
local next_call, next_tokens, paused, spacing, refused =
  unpack(redis.call('HMGET', limit_key, 'next', 'next_tokens', 'paused', 'spacing', 'refused'))
next_call, next_tokens = tonumber(next_call) or 0, tonumber(next_tokens) or 0
paused, spacing, refused = tonumber(paused) or 0, tonumber(spacing) or 0, tonumber(refused) or 0

local function keep(...)
  redis.call('HSET', limit_key, ...)
  redis.call('PEXPIRE', limit_key, EXPIRY)
end

if mode == 'renew' then
  local expiry = tonumber(ARGV[3])
  redis.call('ZADD', calls_key, 'XX', now + expiry, permit)
  return { 'done' }
end

if mode == 'return' then
  local beyond = tonumber(ARGV[3])
  redis.call('ZREM', calls_key, permit)
  if beyond ~= 0 then keep('next_tokens', math.floor(math.max(now, next_tokens) + beyond)) end
  return { 'done' }
end

if mode == 'pause' then
  local asked, longest = unpack(ARGV, 3, 4)
  asked, longest = tonumber(asked), tonumber(longest)
  redis.call('ZREM', calls_key, permit)
  -- Refusals of calls that were in flight together count as one.
  if now >= paused then spacing = math.min(MAX_SPACING, math.max(FIRST_SPACING, spacing * 2)) end
  if asked == 0 then asked = 10 * spacing end
  keep('paused', math.max(paused, now + math.min(asked, longest)), 'spacing', spacing, 'refused', now)
  return { 'done' }
end

local due, interval, worth, burst, max_calls, expiry = unpack(ARGV, 3, 8)
due, interval, worth = tonumber(due), tonumber(interval), tonumber(worth)
burst, max_calls, expiry = tonumber(burst), tonumber(max_calls), tonumber(expiry)
while spacing > 0 and now - refused > QUIET do
  spacing = spacing > FIRST_SPACING and spacing / 2 or 0
  refused = refused + QUIET
  keep('spacing', spacing, 'refused', refused)
end

local why = 'rate'
if due == 0 or due < paused then
  local gap = math.max(interval, spacing)
  local at = math.max(now, paused, next_call, next_tokens - burst)
  if at == paused and paused > now then why = 'paused' end
  if gap > 0 or worth > 0 then
    local next_at = math.floor(math.max(now, paused, next_call) + gap)
    keep('next', next_at, 'next_tokens', math.floor(math.max(now, next_tokens) + worth))
  end
  due = math.floor(at)
end
if due > now then
  if paused > now then why = 'paused' end
  return { 'wait', due - now, due, why }
end

if max_calls > 0 then
  redis.call('ZREMRANGEBYSCORE', calls_key, '-inf', now)
  if redis.call('ZCARD', calls_key) >= max_calls and not redis.call('ZSCORE', calls_key, permit) then
    return { 'wait', 0, due, 'busy' }
  end
  redis.call('ZADD', calls_key, now + expiry, permit)
  redis.call('PEXPIRE', calls_key, EXPIRY)
end
return { 'go' }

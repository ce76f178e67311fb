-- One limit of a model provider for the whole fleet: a place in line for calls and for tokens, the calls in flight, and
-- the pause that a provider asked for.
--
-- Reads first: the limit, and the permit's place in line. A place that was given before a pause began is void.
-- Writes: the line (`next`, `next_tokens`: when the next call may start; the places of those that wait; the places that
-- were given up, which are filled before the line grows), calls in flight, the pause.
-- A repeat of `take` with the same permit finds it in flight, or its place in line, and takes no second one. A repeat of `return` counts its tokens again, and one of `pause` starts the pause again:
-- both only make the fleet slower for a moment.
--
-- KEYS: limit, its calls in flight, the places of those that wait, the places that were given up.
-- ARGV: mode, permit, then
--   take:   the time it was given to come at (0 for a first call), ms between calls, ms that its tokens are worth, ms
--           of tokens that may be taken at once, calls in flight at once (0 for any), ms until a permit expires.
--   renew:  ms until it expires.
--   return: ms that its tokens were worth beyond what it took; negative where it took too much. A permit that still
--           waits gives its place up.
--   pause:  ms that the provider asked for (0 if it named no time), the longest pause in ms.
-- Replies: take: {'go'} | {'free'} where nothing limits calls now | {'wait', ms, time to come at, rate | paused | busy}; pause: {'done', ms by
-- which the pause became longer}; the others: {'done'}.
local limit_key, calls_key, line_key, free_key = unpack(KEYS, 1, 4)
local mode, permit = unpack(ARGV, 1, 2)
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
-- After a refusal calls are spaced: by FIRST_SPACING ms, twice as much with each further refusal up to MAX_SPACING,
-- half as much after each QUIET ms without one. The first spacing hardly slows a provider that refused once; the last
-- one still shows every few seconds whether the provider has recovered.
local FIRST_SPACING, MAX_SPACING, QUIET = 100, 10000, 30000
-- ms after its last use that a limit is forgotten: far more than the longest pause, a minute.
local EXPIRY = 7200000
local next_call, next_tokens, paused, spacing, refused, at =
  unpack(redis.call('HMGET', limit_key, 'next', 'next_tokens', 'paused', 'spacing', 'refused', 'at'))
next_call, next_tokens = tonumber(next_call) or 0, tonumber(next_tokens) or 0
paused, spacing, refused = tonumber(paused) or 0, tonumber(spacing) or 0, tonumber(refused) or 0

-- `at` is when the limit was last changed, to notice that the clock stepped back.
local function keep(...)
  redis.call('HSET', limit_key, 'at', now, ...)
  redis.call('PEXPIRE', limit_key, EXPIRY)
end

-- The clock stepped back: all that is to come comes as much earlier. More than a second, because a clock that is slewed
-- changes nothing.
local stepped_back = (tonumber(at) or 0) - now
if stepped_back > 1000 then
  next_call, next_tokens = next_call - stepped_back, next_tokens - stepped_back
  paused, refused = paused - stepped_back, refused - stepped_back
  keep('next', next_call, 'next_tokens', next_tokens, 'paused', paused, 'refused', refused)
  for _, key in ipairs({ calls_key, line_key, free_key }) do
    local members = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
    for n = 1, #members, 2 do redis.call('ZADD', key, members[n + 1] - stepped_back, members[n]) end
  end
end

-- Gives a place in line that is still to come to the next call that can use it.
local function free(place)
  if place <= now then return end
  redis.call('ZADD', free_key, place, permit)
  redis.call('PEXPIRE', free_key, EXPIRY)
end

if mode == 'renew' then
  local expiry = tonumber(ARGV[3])
  -- Also where it expired, because its holder could not renew in time: its call is in flight all the same.
  redis.call('ZADD', calls_key, now + expiry, permit)
  redis.call('PEXPIRE', calls_key, EXPIRY)
  return { 'done' }
end

if mode == 'return' then
  local beyond = tonumber(ARGV[3])
  redis.call('ZREM', calls_key, permit)
  local place = tonumber(redis.call('ZSCORE', line_key, permit))
  if place then
    redis.call('ZREM', line_key, permit)
    free(place)
  end
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
  local ends = math.max(paused, now + math.min(asked, longest))
  keep('paused', ends, 'spacing', spacing, 'refused', now)
  return { 'done', math.floor(ends - math.max(now, paused)) }
end

local due, interval, worth, burst, max_calls, expiry = unpack(ARGV, 3, 8)
due, interval, worth = tonumber(due), tonumber(interval), tonumber(worth)
burst, max_calls, expiry = tonumber(burst), tonumber(max_calls), tonumber(expiry)
while spacing > 0 and now - refused > QUIET do
  spacing = spacing > FIRST_SPACING and spacing / 2 or 0
  refused = refused + QUIET
  keep('spacing', spacing, 'refused', refused)
end

-- The first place that was given up and is still to come; nil where there is none.
local function first_free()
  redis.call('ZREMRANGEBYSCORE', free_key, '-inf', '(' .. math.max(now, paused))
  local holder, place = unpack(redis.call('ZRANGE', free_key, 0, 0, 'WITHSCORES'))
  return holder, tonumber(place)
end

local why = 'rate'
local gap = math.max(interval, spacing)
local placed = tonumber(redis.call('ZSCORE', line_key, permit))
-- A time to come is the one in line, which the caller may not know: it moves when the clock steps back.
if due == 0 or due > now then due = placed or 0 end
if due == 0 or due < paused then
  local holder, place
  if gap > 0 then holder, place = first_free() end
  local at = math.max(now, paused, place or next_call, next_tokens - burst)
  if holder then
    redis.call('ZREM', free_key, holder)
  elseif gap > 0 then
    keep('next', math.floor(math.max(now, paused, next_call) + gap))
  end
  if worth > 0 then keep('next_tokens', math.floor(math.max(now, next_tokens) + worth)) end
  due = math.floor(at)
elseif due > now and gap > 0 then
  -- It moves up to a place that was given up, unless the tokens of those before it are what it waits for.
  local holder, place = first_free()
  if holder and place < due and next_tokens - burst <= place then
    redis.call('ZREM', free_key, holder)
    free(due)
    due = place
  end
end
if due > now then
  if paused > now then why = 'paused' end
  redis.call('ZADD', line_key, due, permit)
  redis.call('PEXPIRE', line_key, EXPIRY)
  return { 'wait', due - now, due, why }
end

if max_calls > 0 then
  redis.call('ZREMRANGEBYSCORE', calls_key, '-inf', now)
  if redis.call('ZCARD', calls_key) >= max_calls and not redis.call('ZSCORE', calls_key, permit) then
    return { 'wait', 0, due, 'busy' }
  end
  redis.call('ZADD', calls_key, now + expiry, permit)
  redis.call('PEXPIRE', calls_key, EXPIRY)
  keep()
end
if placed then
  redis.call('ZREM', line_key, permit)
  -- With it those of callers that died: their time has passed.
  redis.call('ZREMRANGEBYSCORE', line_key, '-inf', now - QUIET)
end
if gap == 0 and worth == 0 and max_calls == 0 and paused <= now then return { 'free' } end
return { 'go' }

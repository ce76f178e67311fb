-- Reserves tokens of a session's budget for one model call, or gives a reservation back.
--
-- Reads first: the whole budget. It grows only with reservations of calls in flight, because what a job has used is in
-- the job's own record. Then whether the caller's attempt still holds its job.
-- Writes: what the caller has used since it last asked, as spent; its reservation, in place of an earlier one; and
-- drops reservations of attempts that died, but only where their tokens are needed, because that costs a read for each.
-- A repeat counts nothing twice: `used` is a total over all attempts, and a reservation replaces the caller's own.
--
-- KEYS: tag, budget.
-- ARGV: session, dispatcher ('' for the root), its run token, tokens that it has used in all, tokens that it wants (0
--   to give back).
-- Replies: {'unlimited'} | {'granted'} | {'wait', tokens reserved by others} | {'spent', tokens spent, budget} |
--   {'stale'}.
local sid, dispatcher, token, used, wanted = unpack(ARGV, 1, 5)
used, wanted = tonumber(used), tonumber(wanted)
local is_root = dispatcher == ''
local key = budget_key(sid)
local stored = redis.call('HGETALL', key)
if #stored == 0 then return { 'unlimited' } end
local owner = redis.call('HGET', session_key(sid), 'owner')
if not is_root and not holds(dispatcher, token) then return { 'stale' } end

local caller = is_root and sid or dispatcher
local limit, spent, used_before, others, reserved = 0, 0, '0', {}, 0
for at = 1, #stored, 2 do
  local field, value = stored[at], stored[at + 1]
  local kind, of = string.match(field, '^(%a+):(.*)$')
  if field == 'limit' then limit = tonumber(value)
  elseif field == 'spent' then spent = tonumber(value)
  elseif field == 'used' and is_root then used_before = value
  elseif kind == 'reserved' and of ~= caller then
    local tokens, by = string.match(value, '^(%d+) (.*)$')
    others[of] = { tokens = tonumber(tokens), token = by }
    reserved = reserved + tonumber(tokens)
  end
end
if not is_root then used_before = redis.call('HGET', job_key(dispatcher), 'budgeted') or '0' end
local more = math.max(0, used - tonumber(used_before))
spent = spent + more

local dropped = { 'reserved:' .. caller }
if wanted > 0 and spent + wanted <= limit and spent + wanted + reserved > limit then
  for of, other in pairs(others) do
    local lives = false
    if of == sid then lives = owner else lives = holds(of, other.token) end
    if not lives then
      dropped[#dropped + 1] = 'reserved:' .. of
      reserved = reserved - other.tokens
    end
  end
end

redis.call('HDEL', key, unpack(dropped))
if more > 0 then
  redis.call('HSET', key, 'spent', spent)
  if is_root then
    redis.call('HSET', key, 'used', used)
  else
    redis.call('HSET', job_key(dispatcher), 'budgeted', used)
  end
end
if wanted == 0 then return { 'granted' } end
if spent + wanted > limit then return { 'spent', spent, limit } end
if spent + wanted + reserved > limit then return { 'wait', reserved } end
redis.call('HSET', key, 'reserved:' .. caller, string.format('%.0f %s', wanted, token))
return { 'granted' }

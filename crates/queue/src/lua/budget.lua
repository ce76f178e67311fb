-- Reserves tokens of a session's budget for one model call, or gives back what was reserved. What a reserver has used in
-- all its attempts counts as spent. What a dead attempt reserved is nobody's. What a job has used stands in its own
-- record, so that the budget's is no longer than what is reserved.
-- KEYS: tag, the budget. ARGV: session, dispatcher ('' for the root), its token, tokens that it has used, tokens that it
-- wants (0 to give back).
-- Replies: {'unlimited'} | {'granted'} | {'wait', reserved by others} | {'spent', spent, budget} | {'stale'}.
local sid, dispatcher, token = ARGV[1], ARGV[2], ARGV[3]
local used, wanted = tonumber(ARGV[4]), tonumber(ARGV[5])
local key = budget_key(sid)
local fields = redis.call('HGETALL', key)
if #fields == 0 then return { 'unlimited' } end
local owner = session_of(sid).owner
if dispatcher ~= '' and not runs(dispatcher, token) then return { 'stale' } end
local who = dispatcher ~= '' and dispatcher or sid
local limit, spent, before, others, reserved = 0, 0, '0', {}, 0
for at = 1, #fields, 2 do
  local field, value = fields[at], fields[at + 1]
  local kind, of = string.match(field, '^(%a+):(.*)$')
  if field == 'limit' then limit = tonumber(value)
  elseif field == 'spent' then spent = tonumber(value)
  elseif field == 'used' and dispatcher == '' then before = value
  elseif kind == 'held' and of ~= who then
    local tokens, by = string.match(value, '^(%d+) (.*)$')
    others[of] = { tokens = tonumber(tokens), by = by }
    reserved = reserved + tonumber(tokens)
  end
end
if dispatcher ~= '' then before = redis.call('HGET', job_key(dispatcher), 'budgeted') or '0' end
local more = math.max(0, used - tonumber(before))
spent = spent + more
local gone = { 'held:' .. who }
if wanted > 0 and spent + wanted <= limit and spent + wanted + reserved > limit then
  -- Only now it matters who is dead.
  for of, one in pairs(others) do
    local lives = false
    if of == sid then lives = owner else lives = runs(of, one.by) end
    if not lives then
      gone[#gone + 1] = 'held:' .. of
      reserved = reserved - one.tokens
    end
  end
end

redis.call('HDEL', key, unpack(gone))
if more > 0 then
  redis.call('HSET', key, 'spent', spent)
  if dispatcher ~= '' then redis.call('HSET', job_key(dispatcher), 'budgeted', used)
  else redis.call('HSET', key, 'used', used) end
end
if wanted == 0 then return { 'granted' } end
if spent + wanted > limit then return { 'spent', spent, limit } end
if spent + wanted + reserved > limit then return { 'wait', reserved } end
redis.call('HSET', key, 'held:' .. who, string.format('%.0f %s', wanted, token))
return { 'granted' }

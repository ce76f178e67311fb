-- Appends output at its offset and turns at their sequence, under the current unsealed fence only. What is
-- there already is answered as done.
-- KEYS: output, turns, fence. ARGV: token, channel, offset, bytes, finished turns ('' to leave), 1 where
-- what it waits for changed, that in words, then sequence and payload of each turn entry.
-- Replies: {'appended', output length} | {'fenced'} | {'gap', output length}.
local fence = redis.call('HMGET', KEYS[3], 'token', 'sealed', 'attempt')
if not fence[3] then
  -- Nobody began: only the first attempt writes without it, and its first words set the fence.
  redis.call('HSET', KEYS[3], 'attempt', 1, 'token', ARGV[1], 'sealed', 0)
  fence = { ARGV[1], '0', '1' }
end
if fence[1] ~= ARGV[1] or fence[2] ~= '0' then return { 'fenced' } end
local offset, bytes = tonumber(ARGV[3]), ARGV[4]
local length = redis.call('STRLEN', KEYS[1])
if offset > length then return { 'gap', length } end
local fresh = string.sub(bytes, length - offset + 1)
if #fresh > 0 then
  redis.call('APPEND', KEYS[1], fresh)
  redis.call('PUBLISH', ARGV[2], length .. ':' .. fresh)
  length = length + #fresh
end
local last, now = 0, 0
if #ARGV > 7 then
  local clock = redis.call('TIME')
  now = clock[1] * 1000 + math.floor(clock[2] / 1000)
  local entry = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
  if entry then last = tonumber(string.match(entry[1], '^%d+')) end
end
for at = 8, #ARGV, 2 do
  local sequence = tonumber(ARGV[at])
  if sequence > last then
    -- The sequence, and when it was stored.
    redis.call('XADD', KEYS[2], string.format('%d-%.0f', sequence, now), 'entry', ARGV[at + 1])
    last = sequence
  end
end
if ARGV[6] == '1' then redis.call('HSET', KEYS[3], 'waits', ARGV[7]) end
if ARGV[5] ~= '' then redis.call('HSET', KEYS[3], 'finished', ARGV[5]) end
return { 'appended', length }

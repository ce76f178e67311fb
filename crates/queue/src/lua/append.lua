-- Appends output at its offset and turn entries at their sequence.
--
-- Reads first: the fence. Only the attempt that holds it appends, and nothing once a reaper has sealed it. A job
-- without a fence is in its first attempt, whose first append sets it.
-- Writes: output, turn entries, a hint with the new output, and the counts of the fence.
-- A repeat finds its bytes below the length and its entries below the last sequence, and appends only what is missing.
--
-- KEYS: output, turns, fence.
-- ARGV: token, channel for hints, offset, bytes, finished turns ('' to leave them), 1 where what the attempt waits for
--   changed, what it waits for, usage so far as text ('' to leave it), then sequence and payload of each turn entry.
-- Replies: {'appended', bytes of output} | {'fenced'} | {'gap', bytes of output}.
local output_key, turns_key, fence_key = KEYS[1], KEYS[2], KEYS[3]
local token, channel, offset, bytes, finished_turns, waits_changed, waits_for, usage = unpack(ARGV, 1, 8)
local FIRST_ENTRY = 9
local fence_token, sealed, attempt = unpack(redis.call('HMGET', fence_key, 'token', 'sealed', 'attempt'))
if not attempt then
  redis.call('HSET', fence_key, 'attempt', 1, 'token', token, 'sealed', 0)
  fence_token, sealed = token, '0'
end
if fence_token ~= token or sealed ~= '0' then return { 'fenced' } end

local length = redis.call('STRLEN', output_key)
offset = tonumber(offset)
if offset > length then return { 'gap', length } end
local fresh = string.sub(bytes, length - offset + 1)
if #fresh > 0 then
  redis.call('APPEND', output_key, fresh)
  redis.call('PUBLISH', channel, length .. ':' .. fresh)
  length = length + #fresh
end

if #ARGV >= FIRST_ENTRY then
  local clock = redis.call('TIME')
  local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
  local newest = redis.call('XREVRANGE', turns_key, '+', '-', 'COUNT', 1)[1]
  local last = newest and tonumber(string.match(newest[1], '^%d+')) or 0
  for at = FIRST_ENTRY, #ARGV, 2 do
    local sequence, payload = unpack(ARGV, at, at + 1)
    sequence = tonumber(sequence)
    if sequence > last then
      -- An entry is named by its sequence and when it was stored.
      redis.call('XADD', turns_key, string.format('%d-%.0f', sequence, now), 'entry', payload)
      last = sequence
    end
  end
end
local changed = {}
local function note(field, value)
  changed[#changed + 1] = field
  changed[#changed + 1] = value
end
if waits_changed == '1' then note('waits_for', waits_for) end
if finished_turns ~= '' then note('finished', finished_turns) end
if usage ~= '' then note('usage', usage) end
if #changed > 0 then redis.call('HSET', fence_key, unpack(changed)) end
return { 'appended', length }

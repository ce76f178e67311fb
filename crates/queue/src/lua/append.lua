-- Appends output at its offset and turn entries at their sequence.
--
-- Reads first: the fence. Only the attempt that holds it appends, and nothing once a reaper has sealed it. A job
-- without a fence is in its first attempt, whose first append sets it, or has ended in its first attempt: then something
-- is stored, or the append is not the first.
-- Writes: output, turn entries, a hint with the new output, and the counts of the fence.
-- A repeat finds its bytes below the length and its entries below the last sequence, and appends only what is missing.
--
-- KEYS: output, turns, fence.
-- ARGV: token, channel for hints, offset, bytes, finished turns ('' to leave them), what the attempt waits for after a
--   `=` ('' to leave it), usage so far as text ('' to leave it), then the sequence of the first turn entry and the payload
--   of each.
-- Replies: {'appended' or 'followed', bytes of output} | {'fenced'} | {'gap', bytes of output}.
local output_key, turns_key, fence_key = KEYS[1], KEYS[2], KEYS[3]
local offset, bytes, finished_turns, waits_for, usage = tonumber(ARGV[3]), ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local SEQUENCE, FIRST_ENTRY = 8, 9
local first = tonumber(ARGV[SEQUENCE] or '0')
local fence = redis.call('HMGET', fence_key, 'token', 'sealed')
-- Bytes of output and turn entries that are stored, and the fields of the fence that change.
local length, last, changed = 0, 0, {}
if not fence[2] then
  if offset > 0 or first > 1 or redis.call('EXISTS', output_key, turns_key) > 0 then return { 'fenced' } end
  changed = { 'attempt', '1', 'token', ARGV[1], 'sealed', '0' }
elseif fence[1] ~= ARGV[1] or fence[2] ~= '0' then
  return { 'fenced' }
else
  length = redis.call('STRLEN', output_key)
  if first > 0 then last = redis.call('LLEN', turns_key) end
  if offset > length or first > last + 1 then return { 'gap', length } end
end

local fresh = bytes
if offset < length then fresh = string.sub(bytes, length - offset + 1) end
local reply = 'appended'
if #fresh > 0 then
  if redis.call('PUBLISH', ARGV[2], string.format('%d:', length) .. fresh) > 0 then reply = 'followed' end
  length = redis.call('APPEND', output_key, fresh)
end
if first > 0 then
  local clock = redis.call('TIME')
  local now = string.format('%.0f ', clock[1] * 1000 + math.floor(clock[2] / 1000))
  for at = FIRST_ENTRY + last + 1 - first, #ARGV do
    -- An entry has the time when it was stored.
    redis.call('RPUSH', turns_key, now .. ARGV[at])
  end
end
if waits_for ~= '' then changed[#changed + 1], changed[#changed + 2] = 'waits_for', string.sub(waits_for, 2) end
if finished_turns ~= '' then changed[#changed + 1], changed[#changed + 2] = 'finished', finished_turns end
if usage ~= '' then changed[#changed + 1], changed[#changed + 2] = 'usage', usage end
if #changed > 0 then redis.call('HSET', fence_key, unpack(changed)) end
return { reply, length }

-- The list of things to do that all agents of a session share. A repeat of a call is answered as the first time.
-- KEYS: tag, the list. ARGV: session, dispatcher ('' for the root), its token, where the call stands (or a word of its
-- own), mode (read | add | update), then of each new thing its text, or of each change the number and the status.
-- Replies: {'list', the first one added, status, text, ...} | {refusal}: missing, stale, full.
local sid, dispatcher, token, place, mode = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local MOST = 1000
if not read(session_key(sid), { 'cap' }).cap then return { 'missing' } end
if dispatcher ~= '' and not runs(dispatcher, token) then return { 'stale' } end
local list = todos_key(sid)
local call = 'call:' .. dispatcher .. ':' .. place
local count = tonumber(redis.call('HGET', list, 'count') or '0')
local known = redis.call('HGET', list, call)
local first = tonumber(known or count)
local changes = {}
if mode == 'add' and not known then
  if count + #ARGV - 5 > MOST then return { 'full' } end
  for at = 6, #ARGV do
    count = count + 1
    changes[#changes + 1] = 'text:' .. count
    changes[#changes + 1] = ARGV[at]
    changes[#changes + 1] = 'status:' .. count
    changes[#changes + 1] = 'pending'
  end
  changes[#changes + 1] = 'count'
  changes[#changes + 1] = count
elseif mode == 'update' and not known then
  for at = 6, #ARGV, 2 do
    local number = tonumber(ARGV[at])
    if number >= 1 and number <= count then
      changes[#changes + 1] = 'status:' .. number
      changes[#changes + 1] = ARGV[at + 1]
    end
  end
end
if #changes > 0 then
  changes[#changes + 1] = call
  changes[#changes + 1] = first
  for at = 1, #changes, 1000 do
    redis.call('HSET', list, unpack(changes, at, math.min(at + 999, #changes)))
  end
  follow_session(sid, list)
end
local reply = { 'list', first }
for number = 1, count do
  local one = redis.call('HMGET', list, 'status:' .. number, 'text:' .. number)
  reply[#reply + 1] = one[1]
  reply[#reply + 1] = one[2]
end
return reply

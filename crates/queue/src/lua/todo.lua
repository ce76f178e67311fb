-- Reads or changes the todo list that all agents of a session share.
--
-- Reads first: the session, and whether the caller's attempt still holds its job.
-- Writes: the new or changed todos, and the call that changed them among the latest of its caller.
-- A repeat finds its call and answers with the list as it is now; it changes nothing.
--
-- KEYS: tag, the list.
-- ARGV: session, dispatcher ('' for the root), its run token, name of the call, mode (read | add | update), then the
--   text of each new todo, or number and status of each change.
-- Replies: {'list', number of the first todo added less 1, status, text, ...}, or a refusal: {missing | stale | full}.
local sid, dispatcher, token, call_name, mode = unpack(ARGV, 1, 5)
local FIRST = 6
-- The list is read and returned whole, to models too.
local MAX_TODOS = 1000
if not read(session_key(sid), { 'cap' }).cap then return { 'missing' } end
if dispatcher ~= '' and not holds(dispatcher, token) then return { 'stale' } end
local list = todos_key(sid)
-- The latest changes of a caller, `name=number of the first todo added less 1`, separated by spaces. A repeat comes in
-- the same turn, or right after a lost answer: a turn has far fewer calls than these.
local MAX_CALLS = 100
local calls_field = 'calls:' .. dispatcher
local calls = redis.call('HGET', list, calls_field) or ''
local _, at = string.find(' ' .. calls, ' ' .. call_name .. '=', 1, true)
local known = at and string.match(calls, '^%d+', at)
local count = tonumber(redis.call('HGET', list, 'count') or '0')
local first_added = tonumber(known or count)
local changes = {}
local function change(field, value)
  changes[#changes + 1] = field
  changes[#changes + 1] = value
end

if mode == 'add' and not known then
  if count + #ARGV - FIRST + 1 > MAX_TODOS then return { 'full' } end
  for at = FIRST, #ARGV do
    count = count + 1
    change('text:' .. count, ARGV[at])
    change('status:' .. count, 'pending')
  end
  change('count', count)
elseif mode == 'update' and not known then
  for at = FIRST, #ARGV, 2 do
    local number, status = unpack(ARGV, at, at + 1)
    number = tonumber(number)
    if number >= 1 and number <= count then change('status:' .. number, status) end
  end
end
if #changes > 0 then
  local kept = {}
  for entry in string.gmatch(calls, '%S+') do kept[#kept + 1] = entry end
  kept[#kept + 1] = call_name .. '=' .. first_added
  change(calls_field, table.concat(kept, ' ', math.max(1, #kept - MAX_CALLS + 1)))
  call_in_chunks('HSET', list, changes)
  follow_session(sid, list)
end

local reply = { 'list', first_added }
for number = 1, count do
  local status, text = unpack(redis.call('HMGET', list, 'status:' .. number, 'text:' .. number))
  reply[#reply + 1] = status
  reply[#reply + 1] = text
end
return reply

-- Counts what a run used of the budgets of its agent file, each limit of which is a pot of its session.
--
-- Reads first: the session, whether the caller's attempt still holds its job, what is spent of each pot, and what the
-- caller reported last.
-- Writes: what the caller used since then, as spent, and its report: with its job, so that it ends with that, or for the
-- root with the pots.
-- A repeat counts nothing twice: what a run used is a total. Another run of the same caller counts from 0.
--
-- KEYS: tag, pots.
-- ARGV: session, dispatcher ('' for the root), its run token, name of the run, then for each pot its name and what the run
--   used of it.
-- Replies: {'spent', total of each pot, ...}, or a refusal: {missing | stale}.
local sid, dispatcher, token, run = unpack(ARGV, 1, 4)
local FIRST = 5
if not read(session_key(sid), { 'cap' }).cap then return { 'missing' } end
if dispatcher ~= '' and not holds(dispatcher, token) then return { 'stale' } end
local pots = pots_key(sid)
local reports = dispatcher == '' and pots or job_key(dispatcher)
local reply, spendings, reported = { 'spent' }, {}, {}
for at = FIRST, #ARGV, 2 do
  local pot, used = ARGV[at], tonumber(ARGV[at + 1])
  local spent = tonumber(redis.call('HGET', pots, 'spent:' .. pot) or '0')
  local by, before = string.match(redis.call('HGET', reports, 'pot:' .. pot) or '', '^(%S+) (%d+)$')
  local more = math.max(0, used - (by == run and tonumber(before) or 0))
  spent = spent + more
  reply[#reply + 1] = string.format('%.0f', spent)
  if more > 0 then
    spendings[#spendings + 1] = 'spent:' .. pot
    spendings[#spendings + 1] = string.format('%.0f', spent)
    reported[#reported + 1] = 'pot:' .. pot
    reported[#reported + 1] = string.format('%s %.0f', run, used)
  end
end
if #spendings > 0 then
  call_in_chunks('HSET', pots, spendings)
  call_in_chunks('HSET', reports, reported)
  follow_session(sid, pots)
end
return reply

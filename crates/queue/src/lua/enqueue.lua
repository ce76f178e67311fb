-- Stores jobs of one dispatcher and queues them. A repeat with the same ids, or the same keys, is answered
-- as the first time.
-- KEYS: tag, session, team. ARGV: session, dispatcher ('' for the root), its token, team digest, then for
-- each job: id, raw id, spec, agent, queue, priority (0..2), delay ms, timeout ms, retries, once-key hash
-- ('' for none), request hash, first pause before a retry in ms, the job that it tries again ('' for none).
-- Replies: {'stored', {id | 'conflict:'..id | 'void:'..id, ...}} or {refusal}: missing, closed, stale, deep, stopping, team.
local sid, dispatcher, token, team = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local FIRST, STRIDE = 5, 13
local session = read(session_key(sid), { 'cap', 'closed', 'lane', 'owner' })
if not session.cap then return { 'missing' } end
if session.closed then return { 'closed' } end
local ancestors = {}
if dispatcher ~= '' then
  local above = read(job_key(dispatcher), { 'state', 'token' })
  if above.token ~= token or (above.state ~= 'running' and above.state ~= 'waiting') then
    if above.token == token and above.state == 'stopping' then return { 'stopping' } end
    return { 'stale' }
  end
  ancestors = ancestors_of(dispatcher)
  table.insert(ancestors, 1, dispatcher)
  if #ancestors >= 10 then return { 'deep' } end
end
if stop_root(dispatcher ~= '' and dispatcher or nil, sid) then return { 'stopping' } end
if redis.call('HEXISTS', team_key(team), 'json') == 0 then return { 'team' } end

local count = (#ARGV - FIRST + 1) / STRIDE
local sequence = redis.call('HINCRBY', session_key(sid), 'sequence', count) - count
local answers, added, woken = {}, 0, {}
for n = 0, count - 1 do
  local at = FIRST + n * STRIDE
  local id, once = ARGV[at], ARGV[at + 9]
  local known = once ~= '' and redis.call('HMGET', idempotency_key(once), 'job', 'request') or {}
  if known[1] and known[2] ~= ARGV[at + 10] then
    answers[n + 1] = 'conflict:' .. known[1]
  elseif known[1] then
    answers[n + 1] = known[1]
  elseif not redis.call('SET', spec_key(id), ARGV[at + 2], 'NX') then
    -- A repeat: the job is stored already. Or its key was given to another one.
    answers[n + 1] = redis.call('STRLEN', spec_key(id)) > 0 and id or 'void:' .. id
  else
    local queue, priority, delay = ARGV[at + 4], ARGV[at + 5], tonumber(ARGV[at + 6])
    local lane = session.lane or queue
    local order = sequence + n
    local record = {
      'state', delay > 0 and 'scheduled' or 'queued', 'session', sid, 'agent', ARGV[at + 3], 'queue', queue,
      'lane', lane, 'priority', priority, 'created', now, 'sequence', order, 'retries', ARGV[at + 8], 'team', team,
    }
    local function put(field, value)
      record[#record + 1] = field
      record[#record + 1] = value
    end
    if ARGV[at + 7] ~= '0' then put('timeout', ARGV[at + 7]) end
    if ARGV[at + 8] ~= '0' then put('retry_delay', ARGV[at + 11]) end
    -- What it goes on from is kept for as long again.
    if ARGV[at + 12] ~= '' then redis.call('ZADD', INDEX_ENDED, 'XX', now, raw(ARGV[at + 12])) end
    if once ~= '' then put('once', once) end
    if dispatcher ~= '' then
      put('parent', dispatcher)
      put('depth', #ancestors)
      for i, ancestor in ipairs(ancestors) do put(ANCESTORS[i], ancestor) end
    end
    if delay > 0 then
      redis.call('ZADD', SCHEDULED, now + delay, id)
    elseif has_room(sid, queue) then
      put('entry', place(id, sid, queue, lane, priority))
      woken[lane] = (woken[lane] or 0) + 1
    else
      hold_back(id, sid, queue, priority, order)
    end
    redis.call('HSET', job_key(id), unpack(record))
    redis.call('ZADD', children_key(dispatcher ~= '' and dispatcher or sid), order, id)
    redis.call('ZADD', INDEX_ALL, now, ARGV[at + 1])
    if once ~= '' then redis.call('HSET', idempotency_key(once), 'job', id, 'request', ARGV[at + 10]) end
    answers[n + 1] = id
    added = added + 1
  end
end
if added > 0 then
  if redis.call('HINCRBY', session_key(sid), 'jobs', added) == added then keep_session(sid) end
  if redis.call('HINCRBY', team_key(team), 'jobs', added) == added then redis.call('PERSIST', team_key(team)) end
  if dispatcher ~= '' then redis.call('HSET', job_key(dispatcher), 'dispatched', 1) end
  redis.call('HINCRBY', dispatcher ~= '' and job_key(dispatcher) or session_key(sid), 'live', added)
end
for lane, tokens in pairs(woken) do wake(lane, tokens) end
return { 'stored', answers }

-- Stores jobs of one dispatcher, and admits or holds back each.
--
-- Reads first: whether the session takes jobs, whether the dispatcher's attempt still holds its lease, stop marks, and
-- the team. Any of them refuses all jobs, before anything is written.
-- Writes, for each job: its spec, record, index and idempotency key, then stream, backlog or schedule; and the counts
-- of the session, the dispatcher and the team.
-- A repeat with the same ids finds the specs, one with the same idempotency keys finds the keys: both answer as the
-- first time. An id whose spec is empty is void (void.lua): its key may name another job by now.
--
-- KEYS: tag, session, team.
-- ARGV: session, dispatcher ('' for the root), its run token, team digest, then for each job: id, id as 16 bytes, spec
--   as JSON, agent, queue, priority (a level from 0), delay in ms, timeout in ms (0 for none), retries, idempotency key
--   ('' for none), hash of the request, delay of the first retry in ms, id of the job that it retries ('' for none), 1 to
--   retry that one even if it was retried before.
-- Replies: {'stored', {id | 'conflict:' .. id | 'void:' .. id | 'retried:' .. id, ...}}, or a refusal: {missing | closed | stale | deep |
--   stopping | team}.
local sid, dispatcher, token, team = unpack(ARGV, 1, 4)
local FIRST, STRIDE = 5, 14
local session = read(session_key(sid), { 'cap', 'closed', 'lane' })
if not session.cap then return { 'missing' } end
if session.closed then return { 'closed' } end
local parent = dispatcher ~= '' and dispatcher or nil
local ancestors = {}
if parent then
  local above = read(job_key(parent), { 'state', 'token' })
  if above.token == token and above.state == 'stopping' then return { 'stopping' } end
  if above.token ~= token or not is_held(above.state) then return { 'stale' } end
  ancestors = ancestors_of(parent)
  table.insert(ancestors, 1, parent)
  if #ancestors >= #ANCESTORS then return { 'deep' } end
end
if stop_root(parent, sid) then return { 'stopping' } end
if redis.call('HEXISTS', team_key(team), 'json') == 0 then return { 'team' } end

-- The job that a job was retried as, if that is another than `id` and still stored.
local function retried_as(of, id)
  local earlier = redis.call('HGET', job_key(of), 'retried_as')
  return earlier and earlier ~= id and redis.call('EXISTS', job_key(earlier)) == 1 and earlier or nil
end

local count = (#ARGV - FIRST + 1) / STRIDE
local sequence = redis.call('HINCRBY', session_key(sid), 'sequence', count) - count
local answers, added = {}, 0
for n = 0, count - 1 do
  local first = FIRST + n * STRIDE
  local id, raw_id, spec, agent, queue, priority, delay, timeout, retries, key, request, retry_delay, retry_of, again =
    unpack(ARGV, first, first + STRIDE - 1)
  local known = key ~= '' and redis.call('HMGET', idempotency_key(key), 'job', 'request') or {}
  local earlier = retry_of ~= '' and again ~= '1' and retried_as(retry_of, id) or nil
  if earlier then
    answers[n + 1] = 'retried:' .. earlier
  elseif known[1] and known[2] ~= request then
    answers[n + 1] = 'conflict:' .. known[1]
  elseif known[1] then
    answers[n + 1] = known[1]
  elseif not redis.call('SET', spec_key(id), spec, 'NX') then
    answers[n + 1] = redis.call('STRLEN', spec_key(id)) > 0 and id or 'void:' .. id
  else
    delay = tonumber(delay)
    local lane = session.lane or queue
    local order = sequence + n
    local record = {
      'state', delay > 0 and 'scheduled' or 'queued', 'session', sid, 'agent', agent, 'queue', queue, 'lane', lane,
      'priority', priority, 'created', now, 'sequence', order, 'retries', retries, 'team', team,
    }
    local function put(field, value)
      record[#record + 1] = field
      record[#record + 1] = value
    end
    if timeout ~= '0' then put('timeout', timeout) end
    if retries ~= '0' then put('retry_delay', retry_delay) end
    if key ~= '' then put('idempotency_key', key) end
    if parent then
      put('parent', parent)
      put('depth', #ancestors)
      for i, ancestor in ipairs(ancestors) do put(ANCESTORS[i], ancestor) end
    end
    -- Its first attempt reads the turns of the job that it retries, so that one's retention starts again.
    if retry_of ~= '' and redis.call('EXISTS', job_key(retry_of)) == 1 then
      redis.call('ZADD', INDEX_ENDED, 'XX', now, raw(retry_of))
      redis.call('HSET', job_key(retry_of), 'retried_as', id)
    end
    if delay > 0 then
      redis.call('ZADD', SCHEDULED, now + delay, id)
    elseif has_room(sid, queue) then
      put('entry', place(id, sid, queue, lane, priority))
    else
      hold_back(id, sid, queue, priority, order)
    end
    redis.call('HSET', job_key(id), unpack(record))
    redis.call('ZADD', children_key(parent or sid), order, id)
    redis.call('ZADD', INDEX_LIVE, now, raw_id)
    if key ~= '' then redis.call('HSET', idempotency_key(key), 'job', id, 'request', request) end
    answers[n + 1] = id
    added = added + 1
  end
end

if added > 0 then
  if redis.call('HINCRBY', session_key(sid), 'jobs', added) == added then keep_session(sid) end
  if redis.call('HINCRBY', team_key(team), 'jobs', added) == added then redis.call('PERSIST', team_key(team)) end
  if parent then redis.call('HSET', job_key(parent), 'dispatched', 1) end
  redis.call('HINCRBY', parent and job_key(parent) or session_key(sid), 'live', added)
end
return { 'stored', answers }

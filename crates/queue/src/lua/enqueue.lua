-- Stores jobs of one dispatcher, and admits or holds back each.
--
-- Reads first: whether the session takes jobs, whether the dispatcher's attempt still holds its lease, stop marks,
-- the team, and the session's quota of unfinished jobs. Any of them refuses all jobs, before anything is written. Then
-- which of the jobs are there already: those count against no quota, so a repeat is answered in a full session too.
-- Writes, for each job: its facts and request, index and idempotency key, then stream, backlog or schedule; and the
-- counts of the session, the dispatcher and the team. Nothing is written yet for what changes in a job, unless its end is
-- reported: then its hash says where.
-- A repeat with the same ids finds the requests, one with the same idempotency keys finds the keys: both answer as the
-- first time. An id whose request is empty is void (void.lua): its key may name another job by now.
--
-- KEYS: tag, session, team.
-- ARGV: session, dispatcher ('' for the root), its run token, team digest, then for each job: id, id as 16 bytes, its
--   options, request as JSON. Options are separated by spaces: queue, priority (a level from 0), delay in ms, timeout in
--   ms (0 for none), retries, delay of the first retry in ms, idempotency key, hash of the request, id of the job that it
--   retries (these three `-` for none), 1 to retry that one even if it was retried before, URL that its end is reported to
--   (`-` for none).
-- Replies: {'stored', {id | 'conflict:' .. id | 'void:' .. id | 'retried:' .. id, ...}}, or a refusal: {missing | closed |
--   stale | deep | stopping | team | full, unfinished jobs of the session, its quota}.
local sid, dispatcher, token, team = unpack(ARGV, 1, 4)
local FIRST, STRIDE, MAX_DEPTH = 5, 4, 10
local OPTIONS = '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$'
local session = session_of(sid)
if not session.is_open then return { 'missing' } end
if session.closed then return { 'closed' } end
local parent = dispatcher ~= '' and dispatcher or nil
local ancestors = {}
if parent then
  local above = job_of(parent, { 'state', 'token' })
  if above.token == token and above.state == 'stopping' then return { 'stopping' } end
  if above.token ~= token or not is_held(above.state) then return { 'stale' } end
  ancestors = ancestors_of(parent)
  table.insert(ancestors, 1, parent)
  if #ancestors >= MAX_DEPTH then return { 'deep' } end
end
if stop_root(parent, sid) then return { 'stopping' } end
if redis.call('HEXISTS', team_key(team), 'json') == 0 then return { 'team' } end

-- The job that a job was retried as, if that is another than `id` and still stored.
local function retried_as(of, id)
  local earlier = redis.call('HGET', job_key(of), 'retried_as')
  return earlier and earlier ~= id and redis.call('EXISTS', spec_key(earlier)) == 1 and earlier or nil
end

local count = (#ARGV - FIRST + 1) / STRIDE
local stored = {}
for n = 0, count - 1 do stored[n + 1] = spec_key(ARGV[FIRST + n * STRIDE]) end
local any_stored = redis.call('EXISTS', unpack(stored)) > 0

-- What is there of a job before this call or an earlier job of it: nil, 'void' or 'stored'.
local seen = {}
local function found(id)
  if seen[id] then return 'stored' end
  if not any_stored then return nil end
  local length = redis.call('STRLEN', spec_key(id))
  if length > 0 then return 'stored' end
  return redis.call('EXISTS', spec_key(id)) == 1 and 'void' or nil
end

-- The options of a job, and the facts around its sequence and its entry, by their text: mostly all jobs have the same.
local options = {}
-- A release that reads facts up to version 2 would run the jobs of a session beyond its limit in money, so it lacks them.
local version = session.max_cost and '3' or '2'
local budget = session.max_cost and 1 or redis.call('EXISTS', budget_key(sid))
local function parse(text)
  local queue, priority, delay, timeout, retries, retry_delay, key, request, retry_of, again, notify =
    string.match(text, OPTIONS)
  local lane = session.lane or queue
  local is_delayed = delay ~= '0'
  local above = #ancestors > 0 and table.concat(ancestors, ',') or '-'
  local parsed = {
    queue = queue, lane = lane, priority = priority, delay = tonumber(delay), is_delayed = is_delayed,
    key = key ~= '-' and key, request = request, retry_of = retry_of ~= '-' and retry_of, again = again == '1',
    notify = notify ~= '-' and notify,
    head = table.concat({ version, sid, parent or '-', queue, lane, priority, now_text, '' }, ' '),
    middle = table.concat(
      { '', timeout, retries, retries == '0' and '-' or retry_delay, budget, is_delayed and 's' or 'q', '' }, ' '
    ),
    tail = ' ' .. table.concat({ key, team, above }, ' ') .. '\n',
  }
  options[text] = parsed
  return parsed
end

-- How many jobs of this call are not there yet. Two of one key are one job.
local function count_new()
  local new, keys = 0, {}
  for n = 0, count - 1 do
    local id, _, text = unpack(ARGV, FIRST + n * STRIDE, FIRST + n * STRIDE + 2)
    local job = options[text] or parse(text)
    local known = job.key and (keys[job.key] or redis.call('EXISTS', idempotency_key(job.key)) == 1)
    if job.key then keys[job.key] = true end
    local retried = job.retry_of and not job.again and retried_as(job.retry_of, id)
    if not known and not retried and not found(id) then new = new + 1 end
  end
  return new
end

-- `nested` counts the unfinished jobs of jobs, `live` those of the root. A worker of a release that does not know
-- `nested` ends jobs without lowering it, and stores jobs that lower it all the same; `jobs`, the stored ones, bounds what
-- the first adds.
local quota = tonumber(session.quota) or 0
if quota > 0 then
  local unfinished = (tonumber(session.live) or 0) + math.max(0, tonumber(session.nested) or 0)
  unfinished = math.min(unfinished, tonumber(session.jobs) or 0)
  if unfinished + count > quota then
    local new = count_new()
    if new > 0 and unfinished + new > quota then return { 'full', unfinished, quota } end
  end
end

local sequence = redis.call('HINCRBY', session_key(sid), 'sequence', count) - count
local answers, values, children, index = {}, {}, {}, {}
for n = 0, count - 1 do
  local id, raw_id, text, request = unpack(ARGV, FIRST + n * STRIDE, FIRST + n * STRIDE + STRIDE - 1)
  local job = options[text] or parse(text)
  local known = job.key and redis.call('HMGET', idempotency_key(job.key), 'job', 'request') or {}
  local there = not known[1] and found(id)
  local earlier = job.retry_of and not job.again and retried_as(job.retry_of, id)
  if earlier then
    answers[n + 1] = 'retried:' .. earlier
  elseif known[1] and known[2] ~= job.request then
    answers[n + 1] = 'conflict:' .. known[1]
  elseif known[1] then
    answers[n + 1] = known[1]
  elseif there then
    answers[n + 1] = there == 'void' and 'void:' .. id or id
  else
    local order, entry = string.format('%.0f', sequence + n), '-'
    -- Its first attempt reads the turns of the job that it retries, so that one's retention starts again.
    if job.retry_of and redis.call('EXISTS', job_key(job.retry_of)) == 1 then
      redis.call('ZADD', INDEX_ENDED, 'XX', now, raw(job.retry_of))
      redis.call('HSET', job_key(job.retry_of), 'retried_as', id)
    end
    if job.is_delayed then
      redis.call('ZADD', SCHEDULED, now + job.delay, id)
    elseif has_room(sid, job.queue) then
      entry = place(id, sid, job.queue, job.lane, job.priority)
    else
      hold_back(id, sid, job.queue, job.priority, sequence + n)
    end
    values[#values + 1] = spec_key(id)
    values[#values + 1] = job.head .. order .. job.middle .. entry .. job.tail .. request
    children[#children + 1] = order
    children[#children + 1] = id
    index[#index + 1] = now_text
    index[#index + 1] = raw_id
    if job.key then redis.call('HSET', idempotency_key(job.key), 'job', id, 'request', job.request) end
    if job.notify then
      redis.call('HSET', job_key(id), 'state', job.is_delayed and 'scheduled' or 'queued', 'notify', job.notify)
      if entry ~= '-' then redis.call('HSET', job_key(id), 'entry', entry) end
    end
    seen[id] = true
    answers[n + 1] = id
  end
end

local added = #values / 2
if added > 0 then
  redis.call('MSET', unpack(values))
  redis.call('ZADD', children_key(parent or sid), unpack(children))
  redis.call('ZADD', INDEX_LIVE, unpack(index))
  if redis.call('HINCRBY', session_key(sid), 'jobs', added) == added then keep_session(sid) end
  if redis.call('HINCRBY', team_key(team), 'jobs', added) == added then redis.call('PERSIST', team_key(team)) end
  if parent then
    redis.call('HSET', job_key(parent), 'dispatched', 1)
    redis.call('HINCRBY', session_key(sid), 'nested', added)
  end
  redis.call('HINCRBY', parent and job_key(parent) or session_key(sid), 'live', added)
end
return { 'stored', answers }

-- The first of three parts of reaping, and all else that is due in a shard. It takes back jobs whose lease ran out,
-- drops owners that are gone, queues scheduled jobs that are due, and names stop marks whose sweep may have died.
--
-- Reads first: when the shard was last reaped. After a gap (an outage, a laptop that slept) nothing expires for one
-- whole lease, so that the owners that live can renew.
-- Writes: jobs as `reaping`, without a token, so that their attempts are fenced in this shard. Their output is not: the
-- caller seals each fence (seal.lua) and decides with what it finds there (reaped.lua).
-- A repeat finds the jobs that it took before, one lease later: a reaper that died in between loses none.
--
-- KEYS: tag.
-- ARGV: lease in ms, page size, 1 where the caller knows that no worker lives.
-- Replies: {{id, attempt, ...} of jobs taken back, number of sessions whose owner is gone, {root, kind, ...} of stop
--   marks to sweep, number of due jobs that were queued, 1 where a step of the clock leaves more for the next call,
--   number of workers with a heartbeat of the last lease}.
local lease, page_size, alone = unpack(ARGV, 1, 3)
lease, page_size, alone = tonumber(lease), tonumber(page_size), alone == '1'

local last = read(REAPED, { 'at', 'grace_until', 'shift', 'leases_from', 'scheduled_from' })
local grace_until = tonumber(last.grace_until or '0')
local at, shift = tonumber(last.at or '0'), tonumber(last.shift or '0')
if not last.at or now - at > lease then grace_until = now + lease end

-- The clock stepped back: what is leased and scheduled ends and is due as much earlier. More than a second, because a
-- clock that is slewed must not do that. Nothing expires for one lease then, so that what was renewed since the step, and
-- is moved too, is renewed once more. There may be any number of members, so a call moves a page of each set, from the
-- lowest time up: what it moved is below its cursor. Until all are moved `at` stays the old time; then it is the time
-- after the step, so that another step meanwhile is found.
local SHIFT_PAGE = 250
local function shift_page(key, cursor)
  if last[cursor] == 'end' then return end
  local page = redis.call('ZRANGEBYSCORE', key, last[cursor], '+inf', 'WITHSCORES', 'LIMIT', 0, SHIFT_PAGE)
  local moved = {}
  for n = 1, #page, 2 do moved[n], moved[n + 1] = time_text(tonumber(page[n + 1]) - shift), page[n] end
  call_in_chunks('ZADD', key, moved)
  last[cursor] = #page == 2 * SHIFT_PAGE and page[#page] or 'end'
end
if shift == 0 and at - now > 1000 then
  shift, last.leases_from, last.scheduled_from = at - now, '-inf', '-inf'
end
if shift > 0 then
  grace_until = now + lease
  shift_page(LEASE, 'leases_from')
  shift_page(SCHEDULED, 'scheduled_from')
end
local is_shifting = shift > 0 and (last.leases_from ~= 'end' or last.scheduled_from ~= 'end')
if is_shifting then
  redis.call(
    'HSET', REAPED, 'shift', shift, 'leases_from', last.leases_from, 'scheduled_from', last.scheduled_from
  )
elseif shift > 0 then
  redis.call('HDEL', REAPED, 'shift', 'leases_from', 'scheduled_from')
end
if not is_shifting then at = shift > 0 and at - shift or now end
redis.call('HSET', REAPED, 'at', at, 'grace_until', grace_until)
redis.call('PEXPIRE', REAPED, 10 * lease)

local taken, orphans = {}, 0

-- A session whose owner did not renew: its jobs are stopped if that is what its owner's end means.
local function drop_owner(sid)
  local session = read(session_key(sid), { 'on_end' })
  redis.call('HDEL', session_key(sid), 'owner')
  redis.call('DEL', mailbox_key(sid))
  expire_session(sid)
  orphans = orphans + 1
  if session.on_end == 'stop' then
    mark_stop(sid, 'session', 'session_end')
    redis.call('HSET', session_key(sid), 'closed', 1)
  end
end

-- A job whose worker did not renew. Its member stays for one more lease, in case this reaper dies before the third
-- part.
local function take_back(id)
  local job = read(job_key(id), { 'state', 'run', 'ran', 'worker', 'past' })
  if is_held(job.state) then
    local fields = note_attempt(job, 'worker_lost')
    redis.call('HSET', job_key(id), 'state', 'reaping', 'state_before', job.state, unpack(fields))
    redis.call('HDEL', job_key(id), 'token')
  elseif job.state ~= 'reaping' then
    redis.call('ZREM', LEASE, id)
    return
  end
  redis.call('ZADD', LEASE, now + lease, id)
  taken[#taken + 1] = id
  taken[#taken + 1] = (run_of(job))
end

if alone or now >= grace_until then
  local latest = alone and '+inf' or now
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', LEASE, '-inf', latest, 'LIMIT', 0, page_size)) do
    local sid = string.match(member, '^session:(.*)$')
    if sid then
      redis.call('ZREM', LEASE, member)
      drop_owner(sid)
    else
      take_back(member)
    end
  end
end

local due = redis.call('ZRANGEBYSCORE', SCHEDULED, '-inf', now, 'LIMIT', 0, page_size)
for _, id in ipairs(due) do
  redis.call('ZREM', SCHEDULED, id)
  local job = job_of(id, { 'state', 'quarantine' })
  if job.state == 'scheduled' then
    if has_room(job.session, job.queue) then
      admit(id, job)
    else
      redis.call('HSET', job_key(id), 'state', 'queued')
      hold_back(id, job.session, job.queue, job.priority, job.sequence)
    end
  end
end

-- Stop marks of one round. The window moves with each round, so that trees that stop slowly do not hold up the others.
-- A mark is named to one reaper at a time: until its sweep ends, or for a lease if that reaper dies.
local WINDOW = 10
local roots = {}
local unswept = redis.call('ZCARD', STOPS)
if unswept > 0 then
  local from = (redis.call('HINCRBY', REAPED, 'window', WINDOW) - WINDOW) % unswept
  for _, root in ipairs(redis.call('ZRANGE', STOPS, from, from + WINDOW - 1)) do
    local mark = read(stop_key(root), { 'kind', 'owned_until' })
    local owned_until = tonumber(mark.owned_until or '0')
    -- Beyond a lease from now it was set before the clock stepped back.
    if mark.kind and (alone or now >= owned_until or owned_until > now + lease) then
      redis.call('HSET', stop_key(root), 'owned_until', now + lease)
      roots[#roots + 1] = root
      roots[#roots + 1] = mark.kind
    end
  end
end
return { taken, orphans, roots, #due, is_shifting and 1 or 0, redis.call('ZCOUNT', WORKERS, now - lease, '+inf') }

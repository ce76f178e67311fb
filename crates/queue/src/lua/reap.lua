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
--   marks to sweep, number of due jobs that were queued}.
local lease, page_size, alone = unpack(ARGV, 1, 3)
lease, page_size, alone = tonumber(lease), tonumber(page_size), alone == '1'

local last = read(REAPED, { 'at', 'grace_until' })
local grace_until = tonumber(last.grace_until or '0')
if not last.at or now - tonumber(last.at) > lease then grace_until = now + lease end
-- The clock stepped back: what was to expire by the old time expires one lease from now, and a holder that lives renews
-- before. What is scheduled is due as much earlier as the clock stepped. More than a second, because a clock that is
-- slewed must not extend leases. This is the one call that goes through all leases and all scheduled jobs: some 2 ms for
-- each 1,000 of them, once for each step.
local stepped_back = last.at and tonumber(last.at) - now or 0
if stepped_back > 1000 then
  grace_until = now + lease
  local late = {}
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', LEASE, '(' .. now + lease, '+inf')) do
    local sid = string.match(member, '^session:(.*)$')
    local grace = sid and tonumber(redis.call('HGET', session_key(sid), 'owner_grace'))
    late[#late + 1] = now + (grace or lease)
    late[#late + 1] = member
  end
  call_in_chunks('ZADD', LEASE, late)
  local scheduled = redis.call('ZRANGE', SCHEDULED, 0, -1, 'WITHSCORES')
  local earlier = {}
  for at = 1, #scheduled, 2 do
    earlier[at], earlier[at + 1] = tonumber(scheduled[at + 1]) - stepped_back, scheduled[at]
  end
  call_in_chunks('ZADD', SCHEDULED, earlier)
end
redis.call('HSET', REAPED, 'at', now, 'grace_until', grace_until)
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
  local job = job_of(id, { 'state' })
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
return { taken, orphans, roots, #due }

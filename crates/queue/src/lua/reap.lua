-- Part (a) of reaping, and what else is due in a shard. Repeatable; whoever finds a job reaping goes on.
-- KEYS: tag. ARGV: lease in ms, page size, '1' where the caller knows that no worker lives.
-- Replies: {{id, attempt, ...} taken back, {session...} whose owner is gone, {root...} of unswept stops,
-- number of due jobs queued}.
local lease, page, alone = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1'
local taken, orphans, woken = {}, {}, {}

-- Nothing expires until the shard has been reachable for one whole lease: after a gap in the reaping (an
-- outage, a closed laptop) the owners get their time to renew.
local last = redis.call('HMGET', REAPED, 'at', 'grace')
local grace = tonumber(last[2] or '0')
if not last[1] or now - tonumber(last[1]) > lease then grace = now + lease end
redis.call('HSET', REAPED, 'at', now, 'grace', grace)
redis.call('PEXPIRE', REAPED, 10 * lease)

if alone or now >= grace then
  local limit = alone and '+inf' or now
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', LEASE, '-inf', limit, 'LIMIT', 0, page)) do
    local sid = string.match(member, '^session:(.*)$')
    if sid then
      redis.call('ZREM', LEASE, member)
      local session = read(session_key(sid), { 'ends' })
      redis.call('HDEL', session_key(sid), 'owner')
      redis.call('DEL', mailbox_key(sid))
      fade(sid)
      if session.ends == 'stop' then orphans[#orphans + 1] = sid end
    else
      local job = read(job_key(member), { 'state', 'attempt', 'claimed', 'ran' })
      if job.state == 'running' or job.state == 'waiting' or job.state == 'stopping' then
        local ran = (tonumber(job.ran) or 0) + now - tonumber(job.claimed)
        redis.call('HSET', job_key(member), 'state', 'reaping', 'was', job.state, 'ran', ran)
        redis.call('HDEL', job_key(member), 'token')
        job.state = 'reaping'
      end
      if job.state == 'reaping' then
        -- Should this reaper die, the next one finds the job here again.
        redis.call('ZADD', LEASE, now + lease, member)
        taken[#taken + 1] = member
        taken[#taken + 1] = job.attempt
      else
        redis.call('ZREM', LEASE, member)
      end
    end
  end
end

local due = redis.call('ZRANGEBYSCORE', SCHEDULED, '-inf', now, 'LIMIT', 0, page)
for _, id in ipairs(due) do
  redis.call('ZREM', SCHEDULED, id)
  local job = read(job_key(id), { 'state', 'session', 'queue', 'lane', 'priority', 'sequence' })
  if job.state == 'scheduled' then
    redis.call('HSET', job_key(id), 'state', 'queued')
    if has_room(job.session, job.queue) then
      admit(id, job.session, job.queue, job.lane, job.priority)
      woken[job.lane] = (woken[job.lane] or 0) + 1
    else
      hold_back(id, job.session, job.queue, job.priority, job.sequence)
    end
  end
end
for lane, tokens in pairs(woken) do wake(lane, tokens) end

for _, sid in ipairs(orphans) do
  redis.call('HSETNX', stop_key(sid), 'why', 'session_end')
  redis.call('HSET', stop_key(sid), 'kind', 'session', 'asked', stamp)
  redis.call('ZADD', STOPS, 'NX', now, sid)
  redis.call('HSET', session_key(sid), 'closed', 1)
end
local roots = {}
local unswept = redis.call('ZCARD', STOPS)
if unswept > 0 then
  -- A window that moves on, so that trees that stop slowly do not hold up the others.
  local from = (redis.call('HINCRBY', REAPED, 'window', 10) - 10) % unswept
  for _, root in ipairs(redis.call('ZRANGE', STOPS, from, from + 9)) do
    roots[#roots + 1] = root
    roots[#roots + 1] = redis.call('HGET', stop_key(root), 'kind') or 'job'
  end
end
return { taken, orphans, roots, #due }

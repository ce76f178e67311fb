-- Renews what a process holds, and counts as its heartbeat. The rightful owner of an expired lease that
-- nobody reaped keeps it.
-- KEYS: tag. ARGV: lease in ms, number of jobs, then id and token of each, then session and owner of each.
-- Replies: {answer of each job..., answer of each session...}: kept | mail | stop | lost.
local lease, count = tonumber(ARGV[1]), tonumber(ARGV[2])
local FIELDS = { 'state', 'token', 'session', 'dispatched', 'mail' }
local replies, leases = {}, {}
for n = 0, count - 1 do
  local id = ARGV[3 + 2 * n]
  local job = read(job_key(id), FIELDS)
  local held = job.token == ARGV[4 + 2 * n]
    and (job.state == 'running' or job.state == 'waiting' or job.state == 'stopping')
  if not held then
    replies[#replies + 1] = 'lost'
  else
    leases[#leases + 1] = now + lease
    leases[#leases + 1] = id
    if job.state == 'stopping' or stop_root(id, job.session) then
      replies[#replies + 1] = 'stop'
    elseif (job.dispatched or job.mail) and redis.call('EXISTS', mailbox_key(id)) == 1 then
      replies[#replies + 1] = 'mail'
    else
      replies[#replies + 1] = 'kept'
    end
  end
end
for at = 3 + 2 * count, #ARGV, 2 do
  local sid = ARGV[at]
  local session = read(session_key(sid), { 'owner', 'closed' })
  if session.owner ~= ARGV[at + 1] then
    replies[#replies + 1] = 'lost'
  else
    leases[#leases + 1] = now + lease
    leases[#leases + 1] = owner_member(sid)
    if any_stop() and redis.call('EXISTS', stop_key(sid)) == 1 then
      replies[#replies + 1] = 'stop'
    else
      replies[#replies + 1] = redis.call('EXISTS', mailbox_key(sid)) == 1 and 'mail' or 'kept'
    end
  end
end
for first = 1, #leases, 1000 do
  redis.call('ZADD', LEASE, unpack(leases, first, math.min(first + 999, #leases)))
end
return replies

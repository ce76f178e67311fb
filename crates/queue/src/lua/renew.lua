-- Renews the leases that a process holds, jobs and sessions, and tells it what changed for each.
--
-- Reads first: each record, because only the current token or owner may renew. A lease that ran out but was not reaped
-- is renewed: its owner is still the only one.
-- Writes: the expiry of each lease. An owner's lease lasts for its own grace, which the session's record has.
-- A repeat renews again.
--
-- KEYS: tag.
-- ARGV: lease in ms, number of jobs, then id and token of each job, then id and owner of each session.
-- Replies: {answer for each job..., answer for each session...}: kept | mail | stop | lost.
local lease, count = unpack(ARGV, 1, 2)
lease = tonumber(lease)
local FIRST_JOB = 3
local FIRST_SESSION = FIRST_JOB + 2 * tonumber(count)
local FIELDS = { 'state', 'token', 'dispatched', 'mail' }
local replies, leases = {}, {}

local function renew(member, ms)
  leases[#leases + 1] = time_text(now + ms)
  leases[#leases + 1] = member
end

for at = FIRST_JOB, FIRST_SESSION - 1, 2 do
  local id, token = unpack(ARGV, at, at + 1)
  local job = job_of(id, FIELDS)
  local reply = 'lost'
  if job.token == token and is_held(job.state) then
    renew(id, lease)
    -- A stop outranks mail: the attempt ends and its mail with it.
    if job.state == 'stopping' or covering(id, job) then
      reply = 'stop'
    elseif (job.dispatched or job.mail) and redis.call('EXISTS', mailbox_key(id)) == 1 then
      reply = 'mail'
    else
      reply = 'kept'
    end
  end
  replies[#replies + 1] = reply
end

for at = FIRST_SESSION, #ARGV, 2 do
  local sid, owner = unpack(ARGV, at, at + 1)
  local reply = 'lost'
  local session = read(session_key(sid), { 'owner', 'owner_grace' })
  if session.owner == owner then
    renew(owner_member(sid), tonumber(session.owner_grace) or lease)
    if any_stop() and redis.call('EXISTS', stop_key(sid)) == 1 then
      reply = 'stop'
    else
      reply = redis.call('EXISTS', mailbox_key(sid)) == 1 and 'mail' or 'kept'
    end
  end
  replies[#replies + 1] = reply
end

call_in_chunks('ZADD', LEASE, leases)
return replies

-- Leases notifications of ended jobs to a sender: those that are due, the first first.
--
-- Reads first: which are due, and their jobs' records.
-- Writes, for each: that it is due again when the lease is over, unless the sender records what came of it (notified.lua);
-- and one more attempt. One whose job is not there any more is dropped.
-- A repeat after a lost answer leases others: those of the first call are due again after the lease. After a step of the
-- clock they are due as much later.
--
-- KEYS: tag.
-- ARGV: the most of one call, lease in ms.
-- Replies: for each notification: id, URL, number of the attempt, ms since the job's end.
local most, lease = tonumber(ARGV[1]), tonumber(ARGV[2])
local replies = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', NOTIFICATIONS, '-inf', now_text, 'LIMIT', 0, most)) do
  local job = read(job_key(id), { 'state', 'finished', 'notify', 'notice' })
  if not job.notify or not job.state or not is_terminal(job.state) then
    redis.call('ZREM', NOTIFICATIONS, id)
  else
    local attempts, detail = string.match(job.notice or '', '^%S+ (%d+) %d+ (.*)$')
    local due = time_text(now + lease)
    local attempt = string.format('%d', (tonumber(attempts) or 0) + 1)
    redis.call('ZADD', NOTIFICATIONS, due, id)
    redis.call('HSET', job_key(id), 'notice', table.concat({ 'pending', attempt, due, detail or '' }, ' '))
    local at = #replies
    replies[at + 1], replies[at + 2], replies[at + 3] = id, job.notify, attempt
    replies[at + 4] = time_text(math.max(0, now - (tonumber(job.finished) or now)))
  end
end
return replies

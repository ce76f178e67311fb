-- Takes a job that waits for its own jobs out of admission, or puts it back. It keeps its worker and its lease.
--
-- Reads first: token and state. A job that is being stopped is neither parked nor resumed.
-- Writes: the state and the admitted set, and ends a quarantine: a crash is not charged to a job that waits. Parking
-- admits the session's next job; resuming may exceed the cap, because a job that has started is never held back.
-- A repeat finds the state it asks for and answers as the first time.
--
-- KEYS: tag, job.
-- ARGV: id, token, direction (park | resume).
-- Replies: parked | resumed | stopping | lost.
local id, token, direction = unpack(ARGV, 1, 3)
local job = job_of(id, { 'state', 'token', 'quarantine' })
if job.token ~= token then return 'lost' end
if job.state == 'stopping' then return 'stopping' end
if direction == 'park' then
  if job.state == 'waiting' then return 'parked' end
  if job.state ~= 'running' then return 'lost' end
  redis.call('HSET', job_key(id), 'state', 'waiting')
  if job.quarantine then redis.call('HDEL', job_key(id), 'quarantine') end
  if session_of(job.session).cap > 0 then
    redis.call('ZREM', admitted_key(job.session, job.queue), id)
    admit_next(job.session, job.queue)
  end
  return 'parked'
end
if job.state == 'running' then return 'resumed' end
if job.state ~= 'waiting' then return 'lost' end
redis.call('HSET', job_key(id), 'state', 'running')
count_in(id, job.session, job.queue)
return 'resumed'

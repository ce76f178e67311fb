-- How a job that a worker held returns to the queue: for the next attempt at once, or later. Needs admission.

-- Puts a job that a worker held back on its lane. It was admitted before, so it may exceed its session's cap. Its token
-- stays, so that a repeat is recognized; only a held job grants anything for a token.
local function requeue(id, job, fields)
  redis.call('HDEL', job_key(id), 'worker', 'state_before')
  redis.call('ZREM', LEASE, id)
  admit(id, job, fields)
end

-- Schedules a job that a worker held for a later time. Its token stays, as in requeue.
local function postpone(id, job, due, fields)
  redis.call('HSET', job_key(id), 'state', 'scheduled', unpack(fields))
  redis.call('HDEL', job_key(id), 'worker')
  redis.call('ZREM', LEASE, id)
  leave_queue(id, job)
  redis.call('ZADD', SCHEDULED, due, id)
end

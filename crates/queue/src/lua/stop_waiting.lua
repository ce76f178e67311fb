-- Stops jobs that wait for a worker and have dispatched none. Each ends at once and needs no mark: nothing is below it, and
-- a job that has ended dispatches nothing.
--
-- Reads first, for each job: its record. One that a worker holds, or that dispatched jobs, is left to `stop` and `sweep`.
-- Writes: the end of the job, `stopped`.
-- A repeat finds the jobs ended.
--
-- KEYS: tag.
-- ARGV: cause, ids.
-- Replies: for each id 'done' where it ended now, the state that it had ended in, 'tree' where it is left to `stop`, or
--   'missing'.
local cause = ARGV[1]
local replies = {}
for at = 2, #ARGV do
  local id = ARGV[at]
  local job = job_of(id, ENDING)
  local reply = 'tree'
  if not job.state then
    reply = 'missing'
  elseif is_terminal(job.state) then
    reply = job.state
  elseif (job.state == 'queued' or job.state == 'scheduled') and not job.dispatched then
    end_job(id, job, { state = 'stopped', cause = cause })
    reply = 'done'
  end
  replies[at - 1] = reply
end
return replies

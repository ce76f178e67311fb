-- Part (c) of reaping: what becomes of jobs whose fence is sealed.
-- KEYS: tag. ARGV: most crashes in a row, then for each job: id, attempt, output bytes, finished turns.
-- Replies: for each the state that it has now ('failed+tree' where a tree must be swept, 'gone' if another
-- reaper was faster).
local most = tonumber(ARGV[1])
local replies = {}
for at = 2, #ARGV, 4 do
  local id = ARGV[at]
  local job = read(job_key(id), ENDING)
  local books = read(job_key(id), { 'attempt', 'crashes', 'crash_turns', 'was', 'sequence' })
  if job.state ~= 'reaping' or books.attempt ~= ARGV[at + 1] then
    replies[#replies + 1] = 'gone'
  else
    local fields = { 'output_bytes', ARGV[at + 2] }
    local root = stop_root(id, job.session)
    if books.was == 'stopping' or root then
      local why = root and redis.call('HGET', stop_key(root), 'why') or 'operator'
      end_job(id, job, { state = 'stopped', cause = why, fields = fields, root = root })
      replies[#replies + 1] = 'stopped'
    else
      local crashes = tonumber(books.crashes or '0')
      if tonumber(ARGV[at + 3]) > tonumber(books.crash_turns or '0') then crashes = 0 end
      if books.was ~= 'waiting' then crashes = crashes + 1 end
      if crashes >= most then
        local text = crashes .. ' workers in a row were lost while running this job'
        local tree = end_job(id, job, { state = 'failed', cause = 'worker_lost', text = text, fields = fields })
        replies[#replies + 1] = tree and 'failed+tree' or 'failed'
      else
        redis.call('HSET', job_key(id), 'state', 'queued', 'crashes', crashes, 'crash_turns', ARGV[at + 3],
          'output_bytes', ARGV[at + 2])
        redis.call('HDEL', job_key(id), 'worker', 'was')
        redis.call('ZREM', LEASE, id)
        -- It was admitted once; it goes on over the cap if need be.
        admit(id, job.session, job.queue, job.lane, job.priority)
        wake(job.lane, 1)
        replies[#replies + 1] = 'queued'
      end
    end
  end
end
settle()
return replies

-- The third part of reaping: decides what becomes of jobs whose fences are sealed (seal.lua).
--
-- Reads first: state and attempt. Another reaper may have been faster, and the job may have been claimed again.
-- Writes, for each job: `stopped` where its tree is being stopped; `failed`, cause `worker_lost`, after too many
-- crashes in a row, with the last of which it was alone, or after twice as many; else `queued` for the next attempt, in
-- quarantine where that may be its last. A finished turn since the last crash starts the count anew, and a job that waited when its worker died
-- counts no crash: it was not what the worker died of.
-- A repeat finds the job gone from `reaping`.
--
-- KEYS: tag.
-- ARGV: crashes in a row after which a job fails, then for each job: id, attempt, bytes of output, finished turns.
-- Replies: for each job the state that it has now, 'failed+tree' where the tree below must be swept, or 'gone'.
local max_crashes = tonumber(ARGV[1])
local FIRST, STRIDE = 2, 4
local replies = {}

local function decide(id, attempt, output_bytes, finished_turns)
  local job = job_of(id, ENDING)
  local tries = read(job_key(id), { 'run', 'crashes', 'crash_turns', 'state_before' })
  if job.state ~= 'reaping' or (run_of(tries)) ~= attempt then return 'gone' end
  local fields = { 'output_bytes', output_bytes }
  local root = covering(id, job)
  if tries.state_before == 'stopping' or root then
    end_job(id, job, { state = 'stopped', cause = stop_cause(root) or 'operator', fields = fields, root = root })
    return 'stopped'
  end
  local crashes = tonumber(tries.crashes or '0')
  -- With an entry it came from its lane's stream: a process of a release without quarantine put it there, or ran it from
  -- there, beside others.
  local was_alone = job.quarantine and not job.entry
  if tonumber(finished_turns) > tonumber(tries.crash_turns or '0') then crashes, was_alone = 0, false end
  local is_charged = tries.state_before ~= 'waiting'
  if is_charged then crashes = crashes + 1 end
  -- A job that parks leaves quarantine, and may kill its next worker beside others, again and again: that has an end too.
  local is_hopeless = crashes >= 2 * max_crashes
  if (was_alone and crashes >= max_crashes) or is_hopeless then
    local text = crashes .. ' workers in a row were lost while running this job'
    if was_alone then text = text .. ', the last one while it ran alone' end
    local tree = end_job(id, job, { state = 'failed', cause = 'worker_lost', text = text, fields = fields })
    return tree and 'failed+tree' or 'failed'
  end
  if job.quarantine then redis.call('HDEL', job_key(id), 'quarantine') end
  local after = { 'output_bytes', output_bytes, 'crashes', crashes, 'crash_turns', finished_turns }
  job.quarantine = is_charged and crashes >= max_crashes - 1
  if job.quarantine then
    after[#after + 1] = 'quarantine'
    after[#after + 1] = crashes
  end
  requeue(id, job, after)
  return 'queued'
end

for at = FIRST, #ARGV, STRIDE do
  replies[#replies + 1] = decide(unpack(ARGV, at, at + STRIDE - 1))
end
return replies

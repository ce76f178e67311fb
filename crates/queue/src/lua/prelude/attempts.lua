-- Attempts that end before their job does.

-- Attempts of a job that are kept with it, and bytes of the reason of each: enough to see a pattern, and a record stays
-- some kilobytes at most.
local PAST_ATTEMPTS = 20
local REASON_BYTES = 300

-- What a job's record keeps of an attempt that ends and does not end the job: its worker, its time and why it ended, one
-- JSON object a line, and the running time of all attempts. `job` has `run`, `worker`, `ran` and `past`. Returns a flat
-- list for HSET, in which `run` no longer has a claim, so that the attempt is not counted twice.
local function note_attempt(job, why, reason)
  reason = reason or ''
  if #reason > REASON_BYTES then
    -- Without the last character of several bytes, which may be cut.
    reason = string.gsub(string.sub(reason, 1, REASON_BYTES), '[\192-\255]?[\128-\191]*$', '') .. '…'
  end
  local attempt, claimed, started = run_of(job)
  if not started or started == '' then started = claimed or '0' end
  local past = {}
  for line in string.gmatch(job.past or '', '[^\n]+') do past[#past + 1] = line end
  past[#past + 1] = cjson.encode({
    attempt = tonumber(attempt), worker = job.worker or '', started = claimed or '',
    ran = time_text(math.max(0, now - (tonumber(claimed) or now))), ['end'] = why, detail = reason,
  })
  while #past > PAST_ATTEMPTS do table.remove(past, 1) end
  return {
    'past', table.concat(past, '\n'), 'ran', time_text(ran_until_now(job)), 'run',
    (attempt or '0') .. ' 0 ' .. started,
  }
end

-- What every step of a shard starts from: the clock, the records, and what runs when the step is over.
--
-- step.rs joins the key names (keys.rs), this file, the parts of prelude/ that the step names there, and the step's own
-- file as the body of a function. `finish` runs after that function has returned. So a step may return anywhere, and
-- what must happen at its end is never left out.

-- Redis' clock in milliseconds. No other time is stored, so the clocks of the fleet need not agree.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
-- Names this call. A script takes longer than a microsecond, so no two calls have the same stamp.
local stamp = clock[1] .. '.' .. clock[2]

-- Runs at the end of the step, once for all that it changed. A part that defers something appends a function here.
local deferred = {}
local function finish()
  for _, run in ipairs(deferred) do run() end
end

-- The fields of a record that name the jobs above it, the nearest first. Ten is the greatest depth of a tree.
local ANCESTORS = { 'a1', 'a2', 'a3', 'a4', 'a5', 'a6', 'a7', 'a8', 'a9', 'a10' }

-- Reads fields of a hash into a table by name. Absent fields are false.
local function read(key, fields)
  local values = redis.call('HMGET', key, unpack(fields))
  local record = {}
  for i, field in ipairs(fields) do record[field] = values[i] end
  return record
end

-- Sends a command with any number of arguments, in chunks: `unpack` fails beyond some 8,000 values. The chunk is even,
-- so a field and its value, or a score and its member, stay together.
local CHUNK = 1000
local function call_in_chunks(command, key, arguments)
  for first = 1, #arguments, CHUNK do
    redis.call(command, key, unpack(arguments, first, math.min(first + CHUNK - 1, #arguments)))
  end
end

-- The 16 bytes of a UUID: the form in the indexes, less than half as long as the text.
local function raw(id)
  return (string.gsub(string.gsub(id, '-', ''), '..', function(hex) return string.char(tonumber(hex, 16)) end))
end

-- Whether a job has ended. Terminal is final: no step changes such a record's state.
local function is_terminal(state)
  return state == 'completed' or state == 'failed' or state == 'stopped'
end

-- Whether a worker holds the job. A job in `reaping` has lost its worker already.
local function is_held(state)
  return state == 'running' or state == 'waiting' or state == 'stopping'
end

-- Whether the attempt with this token holds a job.
local function holds(id, token)
  local job = read(job_key(id), { 'state', 'token' })
  return job.token == token and is_held(job.state)
end

-- How long a job has run in all its attempts, in milliseconds. `job` has `ran` and `claimed`. Never below zero: the
-- clock may have stepped back since the claim.
local function ran_until_now(job)
  return math.max(0, tonumber(job.ran) or 0) + math.max(0, now - (tonumber(job.claimed) or now))
end

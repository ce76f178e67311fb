-- What every step of a shard may use: the clock, the records, and what runs when the step is over.
--
-- step.rs puts the key names (keys.rs) and the paragraphs of this file and of prelude/ that a step uses before the step's
-- own file. A paragraph begins with a `local` after an empty line, and is left out where no name of it is used. `finish`
-- runs after a step that deferred something has returned. So a step may return anywhere, and what must happen at its end
-- is never left out.

-- Redis' clock in milliseconds. No other time is stored, so the clocks of the fleet need not agree.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- A time as an argument of a command: Redis takes a microsecond to make the text of a number.
local function time_text(ms) return string.format('%.0f', ms) end
local now_text = time_text(now)

-- Names this call. A script takes longer than a microsecond, so no two calls have the same stamp.
local stamp = clock[1] .. '.' .. clock[2]

-- Runs at the end of the step, once for all that it changed. A part that defers something appends a function here.
local deferred = {}
local function finish()
  for _, run in ipairs(deferred) do run() end
end

-- Reads fields of a hash into a table by name. Absent fields are false.
local function read(key, fields)
  local values = redis.call('HMGET', key, unpack(fields))
  local record = {}
  for i, field in ipairs(fields) do record[field] = values[i] end
  return record
end

-- The facts of a job by id, read once in a step: what its dispatch decided and nothing changes. They stand before the
-- request in one string (stored/facts.rs), each followed by a space, with `-` for an absent one. Nil for a job that is not
-- stored or void. The longest facts, ten ancestors and two long names, have 800 bytes.
local known_facts = {}
local FACTS_BYTES = 1000
local FACTS = '^%d+ (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)[^\n]*\n'
local function parse_facts(text)
  local session, parent, queue, lane, priority, created, sequence, timeout, retries, retry_delay, budget, state, entry,
    key, team, ancestors = string.match(text, FACTS)
  if not session then return nil end
  return {
    session = session, parent = parent ~= '-' and parent, queue = queue, lane = lane, priority = priority,
    created = created, sequence = sequence, timeout = timeout, retries = retries, retry_delay = retry_delay,
    budget = budget, state = state == 'q' and 'queued' or 'scheduled', entry = entry ~= '-' and entry,
    idempotency_key = key ~= '-' and key, team = team, above = ancestors,
  }
end
local function facts_of(id)
  local facts = known_facts[id]
  if facts == nil then
    local text = redis.call('GETRANGE', spec_key(id), 0, FACTS_BYTES)
    facts = parse_facts(text) or false
    known_facts[id] = facts
  end
  return facts or nil
end

-- The jobs above a job, the nearest first.
local function ancestors_of(id)
  local facts, above = facts_of(id), {}
  if facts and facts.above ~= '-' then
    for ancestor in string.gmatch(facts.above, '[^,]+') do above[#above + 1] = ancestor end
  end
  return above
end

-- For fields of a job that were not read: they are among its facts.
local FACTS_TOO = {
  __index = function(job, field)
    local facts = facts_of(rawget(job, 'id'))
    return facts and facts[field]
  end,
}

-- Reads fields of a job that change; `state` is one of them, and false for a job that is not stored. Its facts are read
-- where one is asked for. A job that nothing has happened to yet has no hash: its state and its entry are facts.
local function job_of(id, fields)
  local job = read(job_key(id), fields)
  if not job.state then
    local facts = facts_of(id)
    job.state = facts and facts.state
    job.entry = facts and facts.entry
    job.is_fresh = job.state and true
  end
  job.id = id
  return setmetatable(job, FACTS_TOO)
end

-- Makes the hash of a job that has none, before a field of it is written.
local function keep(id, job)
  if not job.is_fresh then return end
  redis.call('HSET', job_key(id), 'state', job.state)
  if job.entry then redis.call('HSET', job_key(id), 'entry', job.entry) end
end

-- Attempt, time of the claim and, after the first attempt, time of the first claim of a job, from its field `run`; nil
-- before the first claim. The time of the claim is 0 once its attempt has ended and the job has not.
local function run_of(job)
  if job.run then return string.match(job.run, '^(%d+) (%d+) ?(%d*)') end
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

-- What an ended job keeps of its run token: no attempt holds it any more, and a repeat of its end is recognized by that.
local KEPT_TOKEN = 8

-- Whether the current or last attempt of a job has this token.
local function is_own(job, token)
  return job.token == token or (is_terminal(job.state) and job.token == string.sub(token, 1, KEPT_TOKEN))
end

-- Whether the attempt with this token holds a job.
local function holds(id, token)
  local job = read(job_key(id), { 'state', 'token' })
  return job.token == token and is_held(job.state)
end

-- How long a job has run in all its attempts, in milliseconds. `job` has `ran` and `run`. Never below zero:
-- the clock may have stepped back since the claim.
local function ran_until_now(job)
  local _, claimed = run_of(job)
  claimed = tonumber(claimed) or 0
  return math.max(0, tonumber(job.ran) or 0) + (claimed > 0 and math.max(0, now - claimed) or 0)
end

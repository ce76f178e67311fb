-- How the keys of a session end.

-- Seconds for which the keys of a session without jobs and owner are kept: a repeat of its open or close that was long
-- on its way is answered as the first time.
local SESSION_EXPIRY = 3600

-- The keys of a session that end together: its record and what its agents share.
local function session_keys(sid)
  return { session_key(sid), todos_key(sid), budget_key(sid), pots_key(sid) }
end

-- Keeps a session until its jobs and its owner are gone.
local function keep_session(sid)
  for _, key in ipairs(session_keys(sid)) do redis.call('PERSIST', key) end
end

-- Lets a key that was written late end when its session does.
local function follow_session(sid, key)
  local left = redis.call('TTL', session_key(sid))
  if left > 0 then redis.call('EXPIRE', key, left) else redis.call('PERSIST', key) end
end

-- Drops the streams and the wake list of a session's own lane.
local function drop_lane(lane)
  local streams = {}
  for priority = 0, LOWEST_PRIORITY do streams[#streams + 1] = ready_key(lane, priority) end
  redis.call('DEL', wake_key(lane), unpack(streams))
end

-- Lets a session without jobs and without an owner expire: its own lane now, its keys after SESSION_EXPIRY.
local function expire_session(sid)
  local session = read(session_key(sid), { 'jobs', 'lane' })
  if tonumber(session.jobs or '0') > 0 then return end
  if session.lane then drop_lane(session.lane) end
  for _, key in ipairs(session_keys(sid)) do redis.call('EXPIRE', key, SESSION_EXPIRY) end
end

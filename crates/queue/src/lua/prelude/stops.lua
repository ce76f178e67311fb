-- Stop marks: which trees of the shard are being stopped, and why.

-- Whether any tree of this shard is being stopped. Mostly none is, and then this is the only read a step pays for
-- stops.
local marked = nil
local function any_stop()
  if marked == nil then marked = redis.call('ZCARD', STOPS) > 0 end
  return marked
end

-- The root of the stop mark that covers a job, or with id nil the root of a session; nil where none does.
local function stop_root(id, sid)
  if not any_stop() then return nil end
  if redis.call('EXISTS', stop_key(sid)) == 1 then return sid end
  if not id then return nil end
  if redis.call('EXISTS', stop_key(id)) == 1 then return id end
  for _, ancestor in ipairs(ancestors_of(id)) do
    if redis.call('EXISTS', stop_key(ancestor)) == 1 then return ancestor end
  end
  return nil
end

-- The root of the stop mark that covers a job as it was read. Its facts are read only where there is any mark.
local function covering(id, job)
  if not any_stop() then return nil end
  return stop_root(id, job.session)
end

-- The cause of a stop mark, or nil without a mark: a job can be `stopping` after its mark was dropped.
local function stop_cause(root)
  return root and redis.call('HGET', stop_key(root), 'cause') or nil
end

-- Marks the tree below a root (kind: job or session) as being stopped. The first request decides the cause and the
-- asker; each renews `request`, so that the sweep of an earlier request does not drop the mark of a later one.
local function mark_stop(root, kind, cause, asker)
  if redis.call('HSETNX', stop_key(root), 'cause', cause) == 1 and asker then
    redis.call('HSET', stop_key(root), 'asker', asker)
  end
  redis.call('HSET', stop_key(root), 'kind', kind, 'request', stamp)
  redis.call('ZADD', STOPS, 'NX', now, root)
  -- Jobs that this step reads from now on may be below the mark.
  marked = true
end

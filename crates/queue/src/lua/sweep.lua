-- Ends one page of the records below a stop mark: what waits ends stopped, what runs becomes stopping.
-- KEYS: tag. ARGV: root of the mark, mode (self|children), dispatcher, first sequence, page size; or root, unmark, and
-- which asking the sweep began with: a mark that was asked for again since then stays, for its own sweep.
-- Without its mark a tree is left alone: another sweep dropped the mark, and what came since may live.
-- Replies: {live (-1 without a mark), next sequence or -1, which asking, ids that dispatched...}; for unmark:
-- {'unmarked'} | {'asked again'}.
local root, mode = ARGV[1], ARGV[2]
if mode == 'unmark' then
  if (redis.call('HGET', stop_key(root), 'asked') or '') ~= ARGV[3] then return { 'asked again' } end
  redis.call('ZREM', STOPS, root)
  redis.call('DEL', stop_key(root))
  return { 'unmarked' }
end
local mark = read(stop_key(root), { 'why', 'asked' })
if not mark.why then return { -1, -1, '' } end
-- Pages go by sequence: a place in the list would move when records before it are forgotten.
local ids, first, page = { root }, tonumber(ARGV[4]), tonumber(ARGV[5])
if mode == 'children' then
  ids = redis.call('ZRANGEBYSCORE', children_key(ARGV[3]), first, '+inf', 'LIMIT', 0, page)
end
local why = mark.why
local live, dispatched = 0, {}
for _, id in ipairs(ids) do
  local job = read(job_key(id), ENDING)
  if job.state == 'queued' or job.state == 'scheduled' then
    end_job(id, job, { state = 'stopped', cause = why, root = root })
  elseif job.state == 'running' or job.state == 'waiting' then
    -- It counts as admitted again, over the cap if need be, until its worker confirms.
    if job.state == 'waiting' then redis.call('ZADD', admitted_key(job.session, job.queue), now, id) end
    redis.call('HSET', job_key(id), 'state', 'stopping')
    live = live + 1
  elseif job.state == 'stopping' or job.state == 'reaping' then
    live = live + 1
  end
  if job.dispatched then dispatched[#dispatched + 1] = id end
end
settle()
local following = -1
if mode == 'children' and #ids == page then
  following = tonumber(redis.call('ZSCORE', children_key(ARGV[3]), ids[page])) + 1
end
if live > 0 then redis.call('PUBLISH', STOP_CHANNEL, root) end
return { live, following, mark.asked or '', unpack(dispatched) }

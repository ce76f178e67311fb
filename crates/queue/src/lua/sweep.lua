-- Ends one page of the records below a stop mark: jobs that wait end `stopped`, jobs that run become `stopping`.
--
-- Reads first: the mark. Without it the tree is left alone: another sweep dropped the mark, and jobs that came since
-- then may live.
-- Writes: the records of the page, and a hint to the workers that hold some of them: once, for the children that become
-- `stopping` now (the request itself hinted at the root). Moves the mark's cursor past a first page of the root's own children that has nothing alive in or below
-- it: a job that ended never lives again, so no later sweep reads it.
-- A repeat finds the page done and counts what still lives in it.
--
-- Pages go by sequence: a rank in the set would move when jobs before it are forgotten between two pages.
--
-- KEYS: tag.
-- ARGV: root of the mark, what to sweep (self | children), dispatcher of the children, first sequence, page size.
-- Replies: {live jobs of the page (-1 without a mark), first sequence of the next page (-1 at the end), the latest
--   request of the mark, 1 where the whole tree was swept for that request before, ids of the page that dispatched jobs
--   of their own...}.
local root, target, dispatcher, first, page_size = unpack(ARGV, 1, 5)
first, page_size = tonumber(first), tonumber(page_size)
local mark = read(stop_key(root), { 'cause', 'request', 'swept', 'cursor' })
if not mark.cause then return { -1, -1, '', 0 } end
local cursor = tonumber(mark.cursor or '0')
local is_first = target == 'children' and dispatcher == root and first <= cursor
if is_first then first = cursor end

local ids = { root }
if target == 'children' then
  ids = redis.call('ZRANGEBYSCORE', children_key(dispatcher), first, '+inf', 'LIMIT', 0, page_size)
end
local live, changed, dispatched = 0, 0, {}
for _, id in ipairs(ids) do
  local job = job_of(id, ENDING)
  if job.state == 'queued' or job.state == 'scheduled' then
    end_job(id, job, { state = 'stopped', cause = mark.cause, root = root })
  elseif job.state == 'running' or job.state == 'waiting' then
    -- A stopping job uses its slot until its worker confirms, so one that waited is admitted again, over the cap if
    -- need be.
    if job.state == 'waiting' then count_in(id, job.session, job.queue) end
    redis.call('HSET', job_key(id), 'state', 'stopping')
    live, changed = live + 1, changed + 1
  elseif job.state == 'stopping' or job.state == 'reaping' then
    live = live + 1
  end
  if job.dispatched then dispatched[#dispatched + 1] = id end
end

local following, past = -1, nil
if target == 'children' and #ids > 0 then
  past = tonumber(redis.call('ZSCORE', children_key(dispatcher), ids[#ids])) + 1
  if #ids == page_size then following = past end
end
if is_first and past and live == 0 and #dispatched == 0 then redis.call('HSET', stop_key(root), 'cursor', past) end
if changed > 0 and target == 'children' then redis.call('PUBLISH', STOP_CHANNEL, root) end
local is_swept = mark.request and mark.swept == mark.request
return { live, following, mark.request or '', is_swept and 1 or 0, unpack(dispatched) }

-- Ends a sweep: drops the stop mark where nothing lives below it, or else notes that the whole tree was swept.
--
-- Reads first: the latest request of the mark. If the tree was asked to stop again since the sweep began, the mark
-- stays for the sweep of that request.
-- Writes: the mark. One that stays is free for the next reaper.
-- A repeat finds no mark, or a later request, or notes the same again.
--
-- KEYS: tag.
-- ARGV: root of the mark, the request that the sweep began with, 1 where a job below lives.
-- Replies: unmarked | swept | requested again.
local root, request, lives = unpack(ARGV, 1, 3)
if (redis.call('HGET', stop_key(root), 'request') or '') ~= request then return 'requested again' end
if lives == '1' then
  if request ~= '' then redis.call('HSET', stop_key(root), 'swept', request) end
  redis.call('HDEL', stop_key(root), 'owned_until')
  return 'swept'
end
redis.call('ZREM', STOPS, root)
redis.call('DEL', stop_key(root))
return 'unmarked'

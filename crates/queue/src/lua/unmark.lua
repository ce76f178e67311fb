-- Drops a stop mark after a sweep that found nothing alive below it.
--
-- Reads first: the latest request of the mark. If the tree was asked to stop again since the sweep began, the mark
-- stays for the sweep of that request.
-- A repeat finds no mark, or a later request.
--
-- KEYS: tag.
-- ARGV: root of the mark, the request that the sweep began with.
-- Replies: unmarked | requested again.
local root, request = unpack(ARGV, 1, 2)
if (redis.call('HGET', stop_key(root), 'request') or '') ~= request then return 'requested again' end
redis.call('ZREM', STOPS, root)
redis.call('DEL', stop_key(root))
return 'unmarked'

-- Drops mail that was delivered to its dispatcher.
--
-- Writes: the mailbox, which is deleted when it is empty, so that `renew` needs to know only whether it exists.
-- A repeat finds the entries gone.
--
-- KEYS: tag, mailbox.
-- ARGV: entry ids.
-- Replies: acknowledged.
local mailbox = KEYS[2]
redis.call('XDEL', mailbox, unpack(ARGV))
if redis.call('XLEN', mailbox) == 0 then redis.call('DEL', mailbox) end
return 'acknowledged'

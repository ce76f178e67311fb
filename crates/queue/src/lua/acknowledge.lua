-- Drops mail that a dispatcher has been given.
-- KEYS: tag, mailbox. ARGV: entry ids.
redis.call('XDEL', KEYS[2], unpack(ARGV))
if redis.call('XLEN', KEYS[2]) == 0 then redis.call('DEL', KEYS[2]) end
return 'acknowledged'

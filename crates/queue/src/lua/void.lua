-- Sees to it that a job which was reserved for a key, and is not stored, never will be: whoever comes late to store it
-- has to look again for whom the key stands.
-- KEYS: tag, spec. ARGV: ms for which it is remembered.
-- Replies: stored | void.
local spec = redis.call('GET', KEYS[2])
if spec and spec ~= '' then return 'stored' end
redis.call('SET', KEYS[2], '', 'PX', ARGV[1])
return 'void'

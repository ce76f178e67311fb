-- Makes an id that was reserved for an idempotency key void, unless its job is stored by now.
--
-- Reads first: the spec of the job.
-- Writes: an empty spec. `enqueue` finds it in place of none and answers `void`: a caller that is late to store the job
-- must ask again which job the key names.
-- A repeat finds the empty spec and restarts its expiry.
--
-- KEYS: tag, spec.
-- ARGV: expiry in ms: longer than any call is on its way.
-- Replies: stored | void.
local spec_key, expiry = KEYS[2], ARGV[1]
local spec = redis.call('GET', spec_key)
if spec and spec ~= '' then return 'stored' end
redis.call('SET', spec_key, '', 'PX', expiry)
return 'void'

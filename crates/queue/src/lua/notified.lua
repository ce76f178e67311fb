-- Records what came of an attempt to deliver a notification.
--
-- Reads first: how the notification stands. What is decided stays so; a sender whose lease is over is heard only where the
-- receiver has accepted, so that a slow one does not undo what a later one does.
-- Writes: that it is delivered or given up, or when it is due again.
-- A repeat writes the same, or finds it decided.
--
-- KEYS: tag.
-- ARGV: id, number of the attempt, state (delivered | failed | pending), delay in ms until the next attempt, detail.
-- Replies: 1 where it was recorded, else 0.
local id, attempt, state, delay, detail = unpack(ARGV, 1, 5)
local stands, attempts = string.match(redis.call('HGET', job_key(id), 'notice') or '', '^(%S+) (%d+)')
if stands ~= 'pending' or (state ~= 'delivered' and attempts ~= attempt) then return 0 end
local due = '0'
if state == 'pending' then
  due = time_text(now + tonumber(delay))
  redis.call('ZADD', NOTIFICATIONS, due, id)
else
  redis.call('ZREM', NOTIFICATIONS, id)
end
redis.call('HSET', job_key(id), 'notice', table.concat({ state, attempts, due, detail }, ' '))
return 1

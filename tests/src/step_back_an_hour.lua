-- Moves all times that Legwork's steps compare with the clock an hour ahead: the same as a clock that steps back.
local hour = 3600000
for _, end_of_key in ipairs({ ':lease', ':scheduled', ':workers', ':line', ':free', ':calls' }) do
  for _, key in ipairs(redis.call('KEYS', '*' .. end_of_key)) do
    for _, member in ipairs(redis.call('ZRANGE', key, 0, -1)) do redis.call('ZINCRBY', key, hour, member) end
  end
end
local function ahead(pattern, fields)
  for _, key in ipairs(redis.call('KEYS', pattern)) do
    for _, field in ipairs(fields) do
      if redis.call('TYPE', key).ok == 'hash' and redis.call('HEXISTS', key, field) == 1 then
        redis.call('HINCRBYFLOAT', key, field, hour)
      end
    end
  end
end
ahead('*:reaped', { 'at', 'grace_until' })
for _, key in ipairs(redis.call('KEYS', '*:job:*')) do
  local run = redis.call('HGET', key, 'run')
  -- The attempt, then times; 0 stands for none.
  if run then
    redis.call('HSET', key, 'run', (string.gsub(run, ' ([1-9]%d*)', function(ms) return string.format(' %.0f', ms + hour) end)))
  end
end
ahead('*:stop:*', { 'owned_until' })
ahead('*:limit:*', { 'at', 'next', 'next_tokens', 'paused', 'refused' })

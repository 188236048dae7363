-- A run leaves the line of a throttle, or gives back the budget that was granted to it.
-- include: tend_throttle
local function leave_throttle(base, id, place, now)
  local key = base .. 'run:' .. id
  local stood = redis.call('ZREM', base .. 'throttleline:' .. place, id)
  if stood == 0 and redis.call('HGET', key, 'tg') then redis.call('HINCRBY', base .. 'throttle:' .. place, 'g', -1) end
  redis.call('HDEL', key, 'tl', 'tg')
  tend_throttle(base, place, now)
end

-- A run gives up its mutex, or its place in the line for it. A mutex that it held goes to the first in line.
-- include: grant_mutex
local function leave_mutex(base, id, mutex, now)
  redis.call('ZREM', base .. 'mutexline:' .. mutex, id)
  redis.call('HDEL', base .. 'run:' .. id, 'mk')
  if redis.call('GET', base .. 'mutex:' .. mutex) ~= id then return end
  redis.call('ZREM', base .. 'grants', id)
  local first = redis.call('ZPOPMIN', base .. 'mutexline:' .. mutex)[1]
  if first then
    grant_mutex(base, first, mutex, now)
  else
    redis.call('DEL', base .. 'mutex:' .. mutex)
  end
end

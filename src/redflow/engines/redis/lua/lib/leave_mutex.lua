-- A run gives up its mutex, or its place in the line for it. A mutex that it held goes to the first in line. The mutex of a
-- prefix of several shards is a lock on one of them, which is told.
-- include: grant_mutex
-- include: post_entry
local function leave_mutex(base, id, mutex, now)
  local key = base .. 'run:' .. id
  if string.find(base, '/%d+}:$') then
    local number = redis.call('HGET', key, 'mn') or '0'
    redis.call('HDEL', key, 'mk', 'mn', 'mg')
    return post_entry(base, 'release ' .. id .. ' - ' .. number .. ' ' .. mutex)
  end
  redis.call('ZREM', base .. 'mutexline:' .. mutex, id)
  redis.call('HDEL', key, 'mk')
  if redis.call('GET', base .. 'mutex:' .. mutex) ~= id then return end
  redis.call('ZREM', base .. 'grants', id)
  local first = redis.call('ZPOPMIN', base .. 'mutexline:' .. mutex)[1]
  if first then
    grant_mutex(base, first, mutex, now)
  else
    redis.call('DEL', base .. 'mutex:' .. mutex)
  end
end

-- Gives a mutex that was granted some time ago, and not taken up, to the first in line of another queue, if there is one.
-- The run that had it stays ready; its next claim puts it in line again.
-- include: grant_mutex
local function pass_grants(base, now)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', base .. 'grants', '-inf', now, 'LIMIT', 0, 10)) do
    redis.call('ZREM', base .. 'grants', id)
    local r, other = redis.call('HMGET', base .. 'run:' .. id, 's', 'mk', 'q'), nil
    if r[1] == 'queued' and r[2] and redis.call('GET', base .. 'mutex:' .. r[2]) == id then
      local line = base .. 'mutexline:' .. r[2]
      for _, waiting in ipairs(redis.call('ZRANGE', line, 0, 199)) do
        if redis.call('HGET', base .. 'run:' .. waiting, 'q') ~= r[3] then
          other = waiting
          break
        end
      end
      if other then
        redis.call('ZREM', line, other)
        redis.call('HDEL', base .. 'run:' .. id, 'mk')
        grant_mutex(base, other, r[2], now)
      else
        redis.call('ZADD', base .. 'grants', now + 5000, id)
      end
    end
  end
end

-- Makes a run that stood in line the owner of a lock, and sends word to it. A grant that it does not take up for 5 s may
-- pass to a run of another queue: the workers of its own may all be gone.
-- include: post_entry
local function pass_lock(base, key, run, now)
  local number, queue = string.match(redis.call('HGET', base .. 'lockplaces:' .. key, run), '^(%d+) (.*)$')
  redis.call('ZREM', base .. 'lockline:' .. key, run)
  redis.call('HDEL', base .. 'lockplaces:' .. key, run)
  redis.call('HSET', base .. 'lock:' .. key, 'o', run, 'n', number, 'q', queue)
  redis.call('ZADD', base .. 'locks', now + 5000, key)
  redis.call('ZADD', base .. 'lockgrants', now + 5000, run .. ' ' .. key)
  -- With the number: an earlier grant of the same lock to this run may still be on its way, or not acknowledged.
  post_entry(base, 'grant - ' .. run .. ' ' .. number .. ' ' .. key)
end

-- Gives an event to the runs that wait for it, at most `limit` a call, and drops waits whose time was over before it came.
-- Returns whether some are left.
-- include: resolve_wait
local function wake_waiters(base, place, event, limit)
  local key = base .. 'waiting:' .. place
  redis.call('ZREMRANGEBYSCORE', key, '-inf', event.ts - 1)
  local waiting = redis.call('ZRANGEBYSCORE', key, event.ts, '+inf', 'LIMIT', 0, limit)
  for _, member in ipairs(waiting) do
    redis.call('ZREM', key, member)
    local run, field = string.sub(member, 1, 32), string.sub(member, 34)
    if resolve_wait(base, run, field, place, event) then redis.call('SADD', base .. 'resumed:' .. event.id, run) end
  end
  return #waiting == limit
end

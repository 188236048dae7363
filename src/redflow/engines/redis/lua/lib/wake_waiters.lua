-- Gives an event to the runs that wait for it, at most `limit` a call, and drops waits whose time was over before it came.
-- A run that has received this event, or a newer one, is passed over: its wait is for what comes after. Returns whether
-- some are left.
-- include: resolve_wait
local function wake_waiters(base, place, event, limit)
  local key, woken, passed = base .. 'waiting:' .. place, 0, 0
  redis.call('ZREMRANGEBYSCORE', key, '-inf', event.ts - 1)
  while woken < limit and passed < 2000 do
    local waiting = redis.call('ZRANGEBYSCORE', key, event.ts, '+inf', 'LIMIT', passed, limit - woken)
    if #waiting == 0 then return false end
    for _, member in ipairs(waiting) do
      local run, field = string.sub(member, 1, 32), string.sub(member, 34)
      local received = redis.call('HGET', base .. 'run:' .. run, 'v:' .. place)
      if received and tonumber(received) >= event.seq then
        passed = passed + 1
      else
        redis.call('ZREM', key, member)
        woken = woken + 1
        if resolve_wait(base, run, field, place, event) then redis.call('SADD', base .. 'resumed:' .. event.id, run) end
      end
    end
  end
  return woken == limit
end

-- Gives an event to the runs that wait for it, at most `limit` a call, and drops waits whose time was over before it came.
-- A run that has received this event, or a newer one, is passed over: its wait is for what comes after. Returns whether
-- some are left. After many that are passed over the event notes (wc) the deadline at which the next pass goes on; whoever
-- begins to wait behind that looks back at the event by himself.
-- include: resolve_wait
-- include: other_shard
-- include: give_event
local function wake_waiters(base, place, event, limit)
  local key, woken, passed = base .. 'waiting:' .. place, 0, 0
  redis.call('ZREMRANGEBYSCORE', key, '-inf', event.ts - 1)
  local from = redis.call('HGET', base .. 'event:' .. event.id, 'wc') or string.format('%d', event.ts)
  local last = from
  while woken < limit do
    if passed >= 2000 and last ~= from then
      redis.call('HSET', base .. 'event:' .. event.id, 'wc', last)
      return true
    end
    local waiting = redis.call('ZRANGEBYSCORE', key, from, '+inf', 'WITHSCORES', 'LIMIT', passed, limit - woken)
    if #waiting == 0 then return false end
    for i = 1, #waiting, 2 do
      local run, field = string.sub(waiting[i], 1, 32), string.sub(waiting[i], 34)
      local other = other_shard(base, run)
      local received = other and redis.call('HGET', base .. 'got:' .. place, run)
        or not other and redis.call('HGET', base .. 'run:' .. run, 'v:' .. place)
      last = waiting[i + 1]
      if received and tonumber(received) >= event.seq then
        passed = passed + 1
      else
        redis.call('ZREM', key, waiting[i])
        woken = woken + 1
        if other then give_event(base, run, field, place, event) end
        if other or resolve_wait(base, run, field, place, event) then
          redis.call('SADD', base .. 'resumed:' .. event.id, run)
        end
      end
    end
  end
  return true
end

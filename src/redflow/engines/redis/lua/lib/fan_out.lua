-- One pass over an event: wakes its waiters and starts its subscribers' runs, a bounded number of each. When nothing is
-- left the event's status becomes final, else it stays in the outbox until next_at. Returns whether it is final.
-- include: event_place
-- include: set_fanout
-- include: wake_waiters
-- include: deliver_to
local function fan_out(base, id, event, now, next_at)
  local key, more, pending, delivered, failed = base .. 'event:' .. id, false, 0, 0, 0
  if event.corr then more = wake_waiters(base, event_place(event.name, event.corr), event, 100) end
  local all, budget = redis.call('HGETALL', key), 50
  for i = 1, #all, 2 do
    local trigger = string.match(all[i], '^d:(.*)$')
    local delivery = trigger and cjson.decode(all[i + 1])
    if delivery and delivery[1] == 'pending' and budget > 0 then
      budget = budget - 1
      deliver_to(base, id, event, trigger, delivery, now)
    end
    if delivery then
      if delivery[1] == 'pending' then pending = pending + 1 end
      if delivery[1] == 'delivered' then delivered = delivered + 1 end
      if delivery[1] == 'failed' then failed = failed + 1 end
    end
  end
  redis.call('HINCRBY', key, 'pp', 1)
  redis.call('HSET', key, 'nd', delivered, 'nf', failed, 'nr', redis.call('SCARD', base .. 'resumed:' .. id))
  if more or pending > 0 then
    redis.call('ZADD', base .. 'outbox', next_at, id)
    return false
  end
  redis.call('ZREM', base .. 'outbox', id)
  local to = failed == 0 and 'completed' or delivered > 0 and 'partial' or 'failed'
  if failed + delivered == 0 then to = 'no-subscribers' end
  set_fanout(base, id, event.name, event.ts, 'pending', to)
  redis.call('HSET', key, 'f', string.format('%d', now))
  redis.call('RPUSH', base .. 'eexpiry:' .. event.retention, id)
  redis.call('SADD', base .. 'eretentions', event.retention)
  return true
end

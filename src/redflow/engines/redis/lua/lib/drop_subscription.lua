-- Takes one trigger of a workflow from an event; an event without subscribers and history loses its contract.
local function drop_subscription(base, event, trigger)
  local subs = base .. 'subs:' .. event
  redis.call('HDEL', subs, trigger)
  if redis.call('EXISTS', subs) == 0 then
    redis.call('SREM', base .. 'subscribed', event)
    local known = redis.call('SISMEMBER', base .. 'event_names', event) == 1
    if not known then redis.call('DEL', base .. 'contract:' .. event) end
  end
end

-- Where an idempotency key ('=' .. key, '' for none) is kept, and the run that holds it, unless that failed, was canceled
-- or is gone. Who finds one renews the TTL, last, since no full Redis refuses that. A run that was merged into another
-- stands for that one. The length in the name keeps two pairs of names from ever meaning the same.
-- include: stored_id
local function earlier_run(base, workflow, key)
  if key == '' then return nil end
  local idem = base .. 'idem:' .. #workflow .. ':' .. workflow .. ':' .. string.sub(key, 2)
  local id = redis.call('GET', idem)
  if not id then return idem end
  local status, merged = unpack(redis.call('HMGET', base .. 'run:' .. id, 's', 'mi'))
  if merged then
    id = stored_id(merged)
    status = redis.call('HGET', base .. 'run:' .. id, 's')
  end
  if not status or status == 'failed' or status == 'canceled' then return idem end
  return idem, id
end

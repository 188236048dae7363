-- Where an idempotency key ('=' .. key, '' for none) is kept, and the run that holds it, unless that failed, was canceled
-- or is gone; renews its TTL. The length in the name keeps two pairs of names from ever meaning the same.
local function earlier_run(base, workflow, key, ttl)
  if key == '' then return nil end
  local idem = base .. 'idem:' .. #workflow .. ':' .. workflow .. ':' .. string.sub(key, 2)
  local id = redis.call('GET', idem)
  if not id then return idem end
  local status = redis.call('HGET', base .. 'run:' .. id, 's')
  if not status or status == 'failed' or status == 'canceled' then return idem end
  redis.call('EXPIRE', idem, ttl)
  return idem, id
end

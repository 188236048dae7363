-- Enters a new run among its parent's children. A parent that is canceled, or about to be, takes the child along.
-- include: stored_id
-- include: cascade_from
local function adopt_run(base, id, parent)
  local holder = stored_id(parent)
  if not holder then return end
  local r = redis.call('HMGET', base .. 'run:' .. holder, 's', 'cr', 'cw')
  if not r[1] then return end
  redis.call('SADD', base .. 'kids:' .. holder, id)
  if r[1] == 'canceled' or r[2] then cascade_from(base, holder, r[3] or '') end
end

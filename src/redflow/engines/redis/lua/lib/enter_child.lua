-- Enters a run among its parent's children. A parent that is canceled, or about to be, takes the child along; then it is
-- true that its cancel is to be carried on.
-- include: cascade_from
local function enter_child(base, id, parent)
  local r = redis.call('HMGET', base .. 'run:' .. parent, 's', 'cr', 'cw')
  if not r[1] then return false end
  redis.call('SADD', base .. 'kids:' .. parent, id)
  if r[1] ~= 'canceled' and not r[2] then return false end
  cascade_from(base, parent, r[3] or '')
  return true
end

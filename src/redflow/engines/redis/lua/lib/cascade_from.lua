-- Marks a run whose children are to be canceled, with the reason they get. Workers and clients carry it out.
-- include: public_id
local function cascade_from(base, id, reason)
  if redis.call('EXISTS', base .. 'kids:' .. id) == 0 then return end
  if reason == '' then reason = 'parent run ' .. public_id(id) .. ' canceled' end
  redis.call('HSET', base .. 'cascade', id, reason)
end

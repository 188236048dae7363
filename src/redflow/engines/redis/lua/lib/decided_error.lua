-- The error of a failure that was decided (field z), from wherever it is stored.
local function decided_error(base, id, z)
  return z == '@' and redis.call('HGET', base .. 'big:' .. id, 'z') or z
end

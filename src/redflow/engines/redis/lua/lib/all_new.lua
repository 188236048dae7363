-- Whether none of the runs with these ids exists, nor is one named twice: ids at every width-th place from the first on.
local function all_new(base, ids, first, width)
  local keys, seen = {}, {}
  for i = first, #ids, width do
    if seen[ids[i]] or #keys == 1000 then return false end
    seen[ids[i]] = true
    keys[#keys + 1] = base .. 'run:' .. ids[i]
  end
  return redis.call('EXISTS', unpack(keys)) == 0
end

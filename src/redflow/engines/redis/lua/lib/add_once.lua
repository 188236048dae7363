-- Puts a name into a set of names, once in a call of the script however many runs have it.
local added = {}

local function add_once(key, name)
  local place = key .. ' ' .. name
  if added[place] then return end
  added[place] = true
  redis.call('SADD', key, name)
end

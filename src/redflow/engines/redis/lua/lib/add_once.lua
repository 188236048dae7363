-- Puts a name into a set of names, once in a call of the script for all runs of a batch that have the same.
local added = {}

local function add_once(key, name)
  if added[key] == name then return end
  added[key] = name
  redis.call('SADD', key, name)
end

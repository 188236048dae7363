-- The shard that a run's id names, if it is another one of this prefix; else nil. A prefix of one shard knows no other.
local function other_shard(base, id)
  local own, count = string.match(base, '%.(%d+)/(%d+)}:$')
  local named = own and tonumber(string.sub(id, 14, 16), 16)
  if named and named < tonumber(count) and named ~= tonumber(own) then return named end
  return nil
end

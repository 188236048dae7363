-- Whether a worker holds a run that is one death away from poison. Such runs are given out one at a time to a
-- worker: the guilty one then takes no innocent one with it, which only shared its holders.
local function holds_suspect(base, worker)
  local id = redis.call('HGET', base .. 'worker:' .. worker, 'suspect')
  if not id or id == '*' then return id == '*' end -- * stands for one of another shard, see bar_suspects
  local r = redis.call('HMGET', base .. 'run:' .. id, 's', 'k', 'x')
  return r[1] == 'running' and string.find(r[2] or '', worker .. '.', 1, true) == 1 and tonumber(r[3] or '0') >= 2
end

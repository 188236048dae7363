-- What an emit answers: the runs started, in the order of the triggers' ids, and the runs woken; of more than 200 woken
-- only how many, since each pass over the event answers this.
-- include: public_id
local function event_result(base, id)
  local all, triggers, deliveries, runs, resumed = redis.call('HGETALL', base .. 'event:' .. id), {}, {}, {}, {}
  for i = 1, #all, 2 do
    local trigger = string.match(all[i], '^d:(.*)$')
    if trigger then
      triggers[#triggers + 1] = trigger
      deliveries[trigger] = cjson.decode(all[i + 1])
    end
  end
  table.sort(triggers)
  for _, trigger in ipairs(triggers) do
    if deliveries[trigger][1] == 'delivered' then runs[#runs + 1] = deliveries[trigger][4] end
  end
  local count = redis.call('SCARD', base .. 'resumed:' .. id)
  if count > 200 then return runs, count end
  for i, run in ipairs(redis.call('SMEMBERS', base .. 'resumed:' .. id)) do resumed[i] = public_id(run) end
  return runs, resumed
end

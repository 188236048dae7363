-- Sets the next time of a cron trigger; '' for never. One that is paused stays out of the line of those that fire.
local function plan_cron(base, trigger, at)
  local key = base .. 'crons'
  redis.call('HSET', base .. 'cron:' .. trigger, 'n', at)
  if at == '' or redis.call('HEXISTS', base .. 'cron:' .. trigger, 'pa') == 1 then
    redis.call('ZREM', key, trigger)
    return
  end
  redis.call('ZADD', key, at, trigger)
end

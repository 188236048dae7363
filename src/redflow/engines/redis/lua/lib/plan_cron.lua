-- Sets the next time of a cron trigger; '' for never.
local function plan_cron(base, trigger, at)
  local key = base .. 'crons'
  redis.call('HSET', base .. 'cron:' .. trigger, 'n', at)
  if at == '' then
    redis.call('ZREM', key, trigger)
    return
  end
  redis.call('ZADD', key, at, trigger)
end

-- Forgets a cron trigger; it fires no more.
local function drop_cron(base, trigger)
  redis.call('ZREM', base .. 'crons', trigger)
  redis.call('DEL', base .. 'cron:' .. trigger)
end

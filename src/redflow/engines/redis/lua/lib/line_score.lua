-- A run's place in the line of a mutex or a throttle: by its time, and within one ms by arrival (in 4096ths of it).
local function line_score(base, at)
  return string.format('%.12f', tonumber(at) + redis.call('INCR', base .. 'seq') % 4096 / 4096)
end

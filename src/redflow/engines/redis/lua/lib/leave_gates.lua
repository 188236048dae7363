-- A run ends or falls asleep: its mutex, its places in lines and what was granted to it go to others. run.mutex,
-- run.line and run.debounce, if they are not nil, say what it has (owned_run read them); else the record is asked.
-- include: leave_mutex
-- include: leave_throttle
-- include: end_debounce
local function leave_gates(base, id, run, now)
  local mutex, line, debounce = run.mutex, run.line, run.debounce
  if mutex == nil then
    mutex, line, debounce = unpack(redis.call('HMGET', base .. 'run:' .. id, 'mk', 'tl', 'dk'))
  end
  if debounce then end_debounce(base, id, debounce) end
  if mutex then leave_mutex(base, id, mutex, now) end
  if line then leave_throttle(base, id, line, now) end
end

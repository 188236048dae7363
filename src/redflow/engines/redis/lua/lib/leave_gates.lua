-- A run ends or falls asleep: its mutex, its places in lines and what was granted to it go to others. run.mutex and run.line,
-- if they are not nil, say what it has (owned_run read them); else the record is asked.
-- include: leave_mutex
-- include: leave_throttle
-- include: end_debounce
local function leave_gates(base, id, run, now)
  local mutex, line = run.mutex, run.line
  if mutex == nil then
    local r = redis.call('HMGET', base .. 'run:' .. id, 'mk', 'tl', 'dk')
    mutex, line = r[1], r[2]
    if r[3] then end_debounce(base, id, r[3]) end
  end
  if mutex then leave_mutex(base, id, mutex, now) end
  if line then leave_throttle(base, id, line, now) end
end

-- Takes a run that nobody executes out of wherever it waits to become ready or to be claimed.
-- include: line_key
-- include: forget_line
local function leave_places(base, id, workflow, queue)
  redis.call('ZREM', base .. 'due', id)
  redis.call('ZREM', base .. 'ready:' .. queue, id)
  redis.call('ZREM', base .. 'suspects:' .. queue, id)
  redis.call('ZREM', base .. 'parked:' .. workflow, id)
  for _, kind in ipairs({ 'line', 'stray' }) do
    local line = line_key(base, kind, queue, workflow)
    if redis.call('ZREM', line, id) == 1 then forget_line(base, kind, queue, workflow) end
  end
end

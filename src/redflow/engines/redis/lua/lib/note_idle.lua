-- Notes for each queue of a worker whether it waits for the bell.
-- include: mark_idle
local function note_idle(base, worker, queues, idle)
  for _, queue in ipairs(queues) do
    if idle then mark_idle(base, queue, worker) else redis.call('SREM', base .. 'idle:' .. queue, worker) end
  end
end

-- A worker that can't take anything more lets others have what it may have been rung for.
-- include: ring_bell
local function pass_bells(base, worker, queues)
  for _, queue in ipairs(queues) do
    redis.call('SREM', base .. 'idle:' .. queue, worker)
    if redis.call('EXISTS', base .. 'ready:' .. queue) == 1 then ring_bell(base, queue) end
  end
end

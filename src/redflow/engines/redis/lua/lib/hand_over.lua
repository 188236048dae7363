-- Gives the free slots of a workflow to the runs that stand in its lines: to the first of each queue, since
-- the workers of one queue may all be gone; the claim decides, and a run that comes too late goes back.
-- Returns how many it moved.
-- include: line_key
-- include: forget_line
-- include: ring_bell
local function hand_over(base, workflow)
  local queues = redis.call('SMEMBERS', base .. 'lined:' .. workflow)
  local moved = 0
  if #queues == 0 or redis.call('HEXISTS', base .. 'paused', 'w:' .. workflow) == 1 then return moved end
  local limit = tonumber(redis.call('HGET', base .. 'meta:' .. workflow, 'max_concurrency') or '')
  local free = limit and (limit - redis.call('ZCARD', base .. 'idx:running:' .. workflow)) or 100
  if free <= 0 then return moved end
  for _, queue in ipairs(queues) do
    local line = line_key(base, 'line', queue, workflow)
    local taken = redis.call('ZPOPMIN', line, math.min(free, 100))
    for i = 1, #taken, 2 do
      redis.call('ZADD', base .. 'ready:' .. queue, taken[i + 1], taken[i])
      ring_bell(base, queue)
    end
    moved = moved + #taken / 2
    forget_line(base, 'line', queue, workflow)
  end
  return moved
end

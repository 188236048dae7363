-- Puts a run into its queue's ready line: at the back, or at the front (a run that was interrupted).
-- include: ring_bell
local function enqueue_run(base, id, queue, at_front)
  local ready = base .. 'ready:' .. queue
  local score
  if at_front then
    local head = redis.call('ZRANGE', ready, 0, 0, 'WITHSCORES')
    score = head[2] and (tonumber(head[2]) - 1) or 0
  else
    score = redis.call('INCR', base .. 'seq')
  end
  redis.call('ZADD', ready, score, id)
  ring_bell(base, queue)
end

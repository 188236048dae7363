-- Puts a run into its queue's ready line: at the back of its priority, or ahead of all (one that was interrupted or was
-- granted a mutex: whatever its priority, others wait for what it holds). priority may be nil, false or a text.
-- A score is the next number of seq, lowered by 2^45 for each step of priority; the front lies below all of these.
-- include: ring_bell
local function enqueue_run(base, id, queue, at_front, priority)
  local ready = base .. 'ready:' .. queue
  local score
  if at_front then
    local head = redis.call('ZRANGE', ready, 0, 0, 'WITHSCORES')
    score = math.min(tonumber(head[2] or '0'), -101 * 2 ^ 45) - 1
  else
    score = redis.call('INCR', base .. 'seq') - (tonumber(priority or '0')) * 2 ^ 45
  end
  redis.call('ZADD', ready, score, id)
  ring_bell(base, queue)
end

-- Puts a run into its queue's ready line: at the back of its priority, or ahead of all (one that was interrupted or was
-- granted a mutex: whatever its priority, others wait for what it holds). priority may be nil, false or a text.
-- A score is the next number of seq, lowered by 2^45 for each step of priority; the front lies below all of these.
-- include: index_run
-- include: next_seq
-- include: ring_bell
local function enqueue_run(base, id, queue, at_front, priority)
  local ready = base .. 'ready:' .. queue
  if at_front then -- at once, since the next one goes before this
    local head = redis.call('ZRANGE', ready, 0, 0, 'WITHSCORES')
    redis.call('ZADD', ready, math.min(tonumber(head[2] or '0'), -101 * 2 ^ 45) - 1, id)
  else
    index_run('ZADD', ready, id, string.format('%d', next_seq(base) - (tonumber(priority or '0')) * 2 ^ 45))
  end
  ring_bell(base, queue)
end

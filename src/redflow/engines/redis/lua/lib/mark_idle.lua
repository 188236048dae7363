-- Notes that a worker waits for the bell of a queue. The TTL is for workers that never come back;
-- one that is still there when it ends is entered anew by its next claim.
local function mark_idle(base, queue, worker)
  if redis.call('SADD', base .. 'idle:' .. queue, worker) == 1 then
    redis.call('EXPIRE', base .. 'idle:' .. queue, 86400)
  end
end

-- Notes that a worker waits for the bell of a queue. The TTL is for workers that never come back.
local function mark_idle(base, queue, worker)
  redis.call('SADD', base .. 'idle:' .. queue, worker)
  redis.call('EXPIRE', base .. 'idle:' .. queue, 3600)
end

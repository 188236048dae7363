-- Makes a run that stood in line the owner of the mutex, so that nobody overtakes it, and ready, ahead of its queue.
-- A grant that nobody takes up for 5 s may pass to a run of another queue: the workers of this one may all be gone.
-- include: enqueue_run
local function grant_mutex(base, id, mutex, now)
  redis.call('SET', base .. 'mutex:' .. mutex, id)
  redis.call('ZADD', base .. 'grants', now + 5000, id)
  enqueue_run(base, id, redis.call('HGET', base .. 'run:' .. id, 'q'), true)
end

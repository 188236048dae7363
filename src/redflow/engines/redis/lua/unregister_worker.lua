-- verb: unregister_worker
-- purpose: a worker says goodbye, so that nobody rings its bell any more
-- keys: 1 base
-- args: now, worker, quiet_ms
-- item: queue
-- replies: ok
-- What it knew is remembered for quiet_ms: its successor, or a service that shares its app, may start meanwhile, and
-- must not drop the metadata of its workflows.
-- include: server_now
local base, worker = KEYS[1], ARGV[2]
local now = server_now(ARGV[1])
redis.call('DEL', base .. 'worker:' .. worker)
for i = 4, #ARGV do redis.call('SREM', base .. 'idle:' .. ARGV[i], worker) end
if redis.call('PEXPIRE', base .. 'knows:' .. worker, ARGV[3]) == 1 then
  redis.call('ZADD', base .. 'workers', now, worker)
else
  redis.call('ZREM', base .. 'workers', worker)
end
return 'ok'

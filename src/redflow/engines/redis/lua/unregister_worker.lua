-- verb: unregister_worker
-- purpose: a worker says goodbye, so that nobody rings its bell any more
-- keys: 1 base
-- args: worker
-- item: queue
-- replies: ok
local base, worker = KEYS[1], ARGV[1]
redis.call('ZREM', base .. 'workers', worker)
for i = 2, #ARGV do redis.call('SREM', base .. 'idle:' .. ARGV[i], worker) end
redis.call('DEL', base .. 'worker:' .. worker, base .. 'knows:' .. worker)
return 'ok'

-- verb: register_worker
-- purpose: make a worker known: which queues it serves and which workflows it can run
-- keys: 1 base
-- args: now, worker, alive_ms, app, info, drain
-- item: workflow
-- replies: {now, epoch}
-- drain = idle | stop of a worker that was told to claim nothing more ('' of others): kept when its record was lost.
-- include: server_now
local base = KEYS[1]
local now, worker, alive_ms = server_now(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local key, knows = base .. 'worker:' .. worker, base .. 'knows:' .. worker
redis.call('DEL', knows)
redis.call('SADD', knows, '')
for i = 7, #ARGV do redis.call('SADD', knows, ARGV[i]) end
redis.call('HSET', key, 'app', ARGV[4], 'info', ARGV[5])
if redis.call('HSETNX', key, 'started', now) == 1 and ARGV[6] ~= '' then redis.call('HSET', key, 'drain', ARGV[6]) end
redis.call('PEXPIRE', key, alive_ms)
redis.call('PEXPIRE', knows, alive_ms)
redis.call('ZADD', base .. 'workers', now + alive_ms, worker)
return { now, redis.call('INCR', base .. 'epoch') }

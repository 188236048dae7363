-- verb: drain_worker
-- purpose: have a worker claim nothing more, or claim again; its next claim tells it, and a bell makes it claim
-- keys: 1 base
-- args: worker, drain
-- replies: 1, or 0: there is no such worker
-- drain = idle | stop (what it does when its last run has ended), '' to claim again.
local key = KEYS[1] .. 'worker:' .. ARGV[1]
if redis.call('EXISTS', key) == 0 then return 0 end
if ARGV[2] ~= '' then redis.call('HSET', key, 'drain', ARGV[2]) else redis.call('HDEL', key, 'drain') end
redis.call('PUBLISH', key, 'bell')
return 1

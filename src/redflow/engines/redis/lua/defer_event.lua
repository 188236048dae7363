-- verb: defer_event
-- purpose: a pass over an event failed: keep it pending, say why, and when the next pass is
-- keys: 1 base
-- args: now, id, delay_ms, error
-- replies: how many passes there were
-- include: server_now
local base, key = KEYS[1], KEYS[1] .. 'event:' .. ARGV[2]
redis.call('ZREM', base .. 'outbox', '')
if redis.call('HGET', key, 'fan') ~= 'pending' then return 0 end
redis.call('ZADD', base .. 'outbox', server_now(ARGV[1]) + tonumber(ARGV[3]), ARGV[2])
redis.call('HSET', key, 'le', ARGV[4])
return redis.call('HINCRBY', key, 'pp', 1)

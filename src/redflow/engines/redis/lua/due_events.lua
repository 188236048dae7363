-- verb: due_events
-- purpose: take events whose fan-out somebody left unfinished
-- keys: 1 base
-- args: now, limit, lease_ms
-- replies: {now, next_due, id ...}
-- Taken ones are left alone by others for lease_ms.
-- include: server_now
local base, now = KEYS[1], server_now(ARGV[1])
local ids = redis.call('ZRANGEBYSCORE', base .. 'outbox', '-inf', now, 'LIMIT', 0, ARGV[2])
for _, id in ipairs(ids) do redis.call('ZADD', base .. 'outbox', 'XX', now + tonumber(ARGV[3]), id) end
local head = redis.call('ZRANGE', base .. 'outbox', 0, 0, 'WITHSCORES')
return { now, head[2] or '', unpack(ids) }

-- verb: close_wait
-- purpose: forget a wait for an event that ended without one
-- keys: 1 base
-- args: id, field, event, correlation_key
-- replies: how many waits were forgotten
-- include: event_place
return redis.call('ZREM', KEYS[1] .. 'waiting:' .. event_place(ARGV[3], ARGV[4]), ARGV[1] .. ' ' .. ARGV[2])

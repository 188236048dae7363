-- verb: close_wait
-- purpose: end a wait for an event whose time is over, unless the event came first
-- keys: 1 base
-- args: id, field, event, correlation_key
-- replies: closed (no event reaches the step any more) | found (one has reached it, and is in its record)
-- The event may come until the very moment of this call: only a script can tell which of the two was first.
-- include: event_place
local base, id, field = KEYS[1], ARGV[1], ARGV[2]
redis.call('ZREM', base .. 'waiting:' .. event_place(ARGV[3], ARGV[4]), id .. ' ' .. field)
local packed = redis.call('HGET', base .. 'run:' .. id, field)
return string.find(packed or '', '^%d+ Re %d+ %-?%d+ %- E ') and 'found' or 'closed'

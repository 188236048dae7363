-- verb: drop_wait
-- purpose: end a wait of a run on another shard whose time is over, unless an event came first
-- keys: 1 base
-- args: run, field, event, correlation_key
-- replies: closed (no event reaches the step any more) | given (one is on its way to it) | unknown (there is no such wait: an event
--   has reached the step, or it was closed before)
-- include: event_place
local base, waiter = KEYS[1], ARGV[1] .. ' ' .. ARGV[2]
if redis.call('ZREM', base .. 'waiting:' .. event_place(ARGV[3], ARGV[4]), waiter) == 1 then return 'closed' end
return redis.call('ZSCORE', base .. 'outgoing', 'resume - ' .. waiter) and 'given' or 'unknown'

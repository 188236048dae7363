-- verb: attach_wait
-- purpose: write the step of a wait that is registered at home
-- keys: 1 base
-- args: id, fence, token, field, header, event, correlation_key, deadline
-- replies: open | found (the event came first) | cancel | timeout | stale | gone | settled
-- include: owned_run
-- include: event_place
-- include: early_event
local base, id, field = KEYS[1], ARGV[1], ARGV[4]
local key, place = base .. 'run:' .. id, event_place(ARGV[6], ARGV[7])
redis.call('ZREM', base .. 'leases', '')
local run, reason = owned_run(base, id, ARGV[2], ARGV[3])
if not run then return reason end
if run.cancel then return 'cancel' end
if run.decided then return 'timeout' end
if string.find(redis.call('HGET', key, field) or '', '^%d+ Re %d+ %-?%d+ %- E ') then return 'found' end
redis.call('HSET', key, field, ARGV[5] .. '- ' .. ARGV[8] .. ' ' .. #place .. ' ' .. place .. ' ')
return early_event(base, id, field, place) and 'found' or 'open'

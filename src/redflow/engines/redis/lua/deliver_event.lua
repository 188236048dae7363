-- verb: deliver_event
-- purpose: the next pass over an event whose fan-out is not complete
-- keys: 1 base
-- args: now, id, next_at
-- replies: {code, id, final, runs, resumed} like accept_event; code is same, or gone
-- next_at: when another worker may take over, ms after now.
-- include: server_now
-- include: read_event
-- include: fan_out
-- include: event_result
local base, id, now = KEYS[1], ARGV[2], server_now(ARGV[1])
redis.call('ZREM', base .. 'outbox', '')
local event = read_event(base, id)
if not event then
  redis.call('ZREM', base .. 'outbox', id)
  return { 'gone', id, 1, {}, {} }
end
local final = event.status ~= 'pending' or fan_out(base, id, event, now, now + tonumber(ARGV[3]))
local runs, resumed = event_result(base, id)
return { 'same', id, final and 1 or 0, runs, resumed }

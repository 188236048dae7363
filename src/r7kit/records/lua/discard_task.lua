-- verb: discard_task
-- purpose: remove the record of a start that was refused
-- keys: 1 task, 2 ops, 3 stream
-- args: op, now, maxlen
-- replies: discarded, ver, at; kept: it is not this start's any more, or is not there
-- Sending it again is harmless.
-- include: utc_now
-- include: drains
-- include: log_change
local known = redis.call('HMGET', KEYS[1], 'uuid', 'ver', 'status', 'starting')
if known[4] ~= ARGV[1] then return { 'kept' } end
local refusal = drains(KEYS[1], KEYS[3])
if refusal then return refusal end
local at, ver = utc_now(ARGV[2]), tonumber(known[2]) + 1
log_change(KEYS[3], ARGV[3], 'deleted', known[1], ver, at, '["deleted_at"]', known[3])
redis.call('DEL', KEYS[1], KEYS[2])
return { 'discarded', ver, at }

-- verb: patch_task
-- purpose: set and remove fields of a task
-- keys: 1 task, 2 ops, 3 stream
-- args: op, now, ttl_ms, maxlen, names
-- item: field, value
-- replies: patched, ver, at; repeated, ver, at: this operation was applied before; gone: it is deleted; missing
-- Sending it again with the same op is harmless. A task whose flow is yet to be started stays short-lived.
-- include: utc_now
-- include: log_change
-- include: remember_op
-- include: write_fields
local known = redis.call('HMGET', KEYS[1], 'uuid', 'ver', 'updated_at', 'status', 'deleted_at', 'starting')
local before = redis.call('ZSCORE', KEYS[2], ARGV[1])
if before then return { 'repeated', tonumber(before), known[3] or utc_now(ARGV[2]) } end
if not known[1] then return { 'missing' } end
if known[5] then return { 'gone' } end
local at, ver, status = utc_now(ARGV[2]), tonumber(known[2]) + 1, known[4]
for i = 6, #ARGV, 2 do
  if ARGV[i] == '=status' then status = ARGV[i + 1] end
end
log_change(KEYS[3], ARGV[4], 'patched', known[1], ver, at, ARGV[5], status)
write_fields(KEYS[1], 6)
redis.call('HSET', KEYS[1], 'ver', ver, 'updated_at', at)
remember_op(KEYS[2], ARGV[1], ver)
if not known[6] then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  redis.call('PEXPIRE', KEYS[2], ARGV[3])
end
return { 'patched', ver, at }

-- verb: delete_task
-- purpose: mark a task deleted, readable for a while; with a time of 0 remove it
-- keys: 1 task, 2 ops, 3 stream
-- args: op, now, ttl_ms, maxlen, ops_ttl_ms
-- replies: deleted, ver, at; repeated, ver, at: this operation was applied before; gone: deleted by another; missing
-- Sending it again with the same op is harmless: the operations are kept for ops_ttl_ms, also when the record goes at once.
-- include: utc_now
-- include: drains
-- include: log_change
-- include: remember_op
local known = redis.call('HMGET', KEYS[1], 'uuid', 'ver', 'updated_at', 'status', 'deleted_at')
local before = redis.call('ZSCORE', KEYS[2], ARGV[1])
if before then return { 'repeated', tonumber(before), known[3] or utc_now(ARGV[2]) } end
if not known[1] then return { 'missing' } end
if known[5] then return { 'gone' } end
local refusal = drains(KEYS[1], KEYS[3])
if refusal then return refusal end
local at, ver = utc_now(ARGV[2]), tonumber(known[2]) + 1
log_change(KEYS[3], ARGV[4], 'deleted', known[1], ver, at, '["deleted_at"]', known[4])
if tonumber(ARGV[3]) == 0 then
  redis.call('DEL', KEYS[1])
else
  redis.call('HSET', KEYS[1], 'deleted_at', at, 'updated_at', at, 'ver', ver)
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
remember_op(KEYS[2], ARGV[1], ver)
redis.call('PEXPIRE', KEYS[2], ARGV[5])
return { 'deleted', ver, at }

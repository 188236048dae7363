-- verb: confirm_task
-- purpose: make the record of a starting task permanent
-- keys: 1 task, 2 ops, 3 stream
-- args: op, now, uuid, status, ttl_ms, maxlen, names, may_create
-- item: field, value
-- replies: confirmed, ver, at; created, ver, at: it was not there; gone: it has been deleted; missing: it is not there, and is
--   not to be written, since the caller may not or since it was removed after this start had written it
-- Sending it again is harmless.
-- include: utc_now
-- include: new_record
local known = redis.call('HMGET', KEYS[1], 'ver', 'updated_at', 'starting', 'deleted_at')
if known[1] then
  if known[4] then return { 'gone' } end
  if known[3] then redis.call('HDEL', KEYS[1], 'starting') end
  redis.call('PEXPIRE', KEYS[1], ARGV[5])
  redis.call('PEXPIRE', KEYS[2], ARGV[5])
  return { 'confirmed', tonumber(known[1]), known[2] }
end
if ARGV[8] == '' or redis.call('ZSCORE', KEYS[2], ARGV[1]) then return { 'missing' } end
local at = utc_now(ARGV[2])
new_record(9, ARGV[1], ARGV[3], ARGV[4], at, ARGV[5], ARGV[6], ARGV[7])
return { 'created', 1, at }

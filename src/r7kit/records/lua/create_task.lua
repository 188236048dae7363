-- verb: create_task
-- purpose: write the record of a new task; while its flow is yet to be started, it is marked and short-lived
-- keys: 1 task, 2 ops, 3 stream
-- args: op, now, uuid, status, ttl_ms, maxlen, names, starting
-- item: field, value
-- replies: created, ver, at; repeated, ver, at: this start wrote it before; waiting, ver, at: another start wrote the same and
--   has not got to its flow yet; exists: there is another task of this uuid
-- Sending it again with the same op is harmless.
-- include: utc_now
-- include: new_record
-- include: remember_op
local known = redis.call('HMGET', KEYS[1], 'ver', 'created_at', 'starting', 'status')
if known[1] then
  local ver = tonumber(known[1])
  if redis.call('ZSCORE', KEYS[2], ARGV[1]) then return { 'repeated', ver, known[2] } end
  local same = known[3] and known[4] == ARGV[4] and redis.call('HLEN', KEYS[1]) == 6 + (#ARGV - 8) / 2
  for i = 9, #ARGV, 2 do
    same = same and redis.call('HGET', KEYS[1], string.sub(ARGV[i], 2)) == ARGV[i + 1]
  end
  if not same then return { 'exists' } end
  remember_op(KEYS[2], ARGV[1], ver)
  redis.call('PEXPIRE', KEYS[1], ARGV[5])
  redis.call('PEXPIRE', KEYS[2], ARGV[5])
  return { 'waiting', ver, known[2] }
end
local at = utc_now(ARGV[2])
new_record(9, ARGV[1], ARGV[3], ARGV[4], at, ARGV[5], ARGV[6], ARGV[7])
if ARGV[8] ~= '' then redis.call('HSET', KEYS[1], 'starting', ARGV[1]) end
return { 'created', 1, at }

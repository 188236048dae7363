-- Writes the record of a new task, its operation and its stream entry; its payload's pairs begin at ARGV[first].
-- include: log_change
-- include: write_fields
-- include: remember_op
local function new_record(first, op, uuid, status, at, ttl_ms, maxlen, names)
  log_change(KEYS[3], maxlen, 'created', uuid, 1, at, names, status)
  redis.call('HSET', KEYS[1], 'uuid', uuid, 'status', status, 'created_at', at, 'updated_at', at, 'ver', 1)
  write_fields(KEYS[1], first)
  remember_op(KEYS[2], op, 1)
  redis.call('PEXPIRE', KEYS[1], ttl_ms)
  redis.call('PEXPIRE', KEYS[2], ttl_ms)
end

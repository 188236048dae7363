-- verb: audit_locks
-- purpose: pass grants on that nobody took up, and name the owners that are to be looked at
-- keys: 1 base
-- args: now, limit
-- replies: key, owner, number ...
-- Of a prefix of several shards. Each lock is named every 5 s, to whoever calls first.
-- include: server_now
-- include: pass_lock
local base, now = KEYS[1], server_now(ARGV[1])

local function of_another_queue(key, queue)
  for _, run in ipairs(redis.call('ZRANGE', base .. 'lockline:' .. key, 0, 199)) do
    local place = redis.call('HGET', base .. 'lockplaces:' .. key, run)
    if string.match(place, '^%d+ (.*)$') ~= queue then return run end
  end
  return nil
end

for _, grant in ipairs(redis.call('ZRANGEBYSCORE', base .. 'lockgrants', '-inf', now, 'LIMIT', 0, 10)) do
  redis.call('ZREM', base .. 'lockgrants', grant)
  local run, key = string.sub(grant, 1, 32), string.sub(grant, 34)
  local r = redis.call('HMGET', base .. 'lock:' .. key, 'o', 'q')
  local other = r[1] == run and of_another_queue(key, r[2])
  if other then
    pass_lock(base, key, other, now)
  elseif r[1] == run then
    redis.call('ZADD', base .. 'lockgrants', now + 5000, grant)
  end
end
local found = {}
for _, key in ipairs(redis.call('ZRANGEBYSCORE', base .. 'locks', '-inf', now, 'LIMIT', 0, ARGV[2])) do
  redis.call('ZADD', base .. 'locks', now + 5000, key)
  local r = redis.call('HMGET', base .. 'lock:' .. key, 'o', 'n')
  found[#found + 1] = key
  found[#found + 1] = r[1]
  found[#found + 1] = r[2]
end
return found

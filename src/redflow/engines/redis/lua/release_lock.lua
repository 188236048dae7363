-- verb: release_lock
-- purpose: a run gives its mutex to the first in line, or leaves the line
-- keys: 1 base
-- args: now, run, key, number
-- replies: 1 if the run had that place, else 0
-- Of a prefix of several shards; on the shard of the key. What the run got under another number stays.
-- include: server_now
-- include: pass_lock
local base, run, key, number = KEYS[1], ARGV[2], ARGV[3], ARGV[4]
local lock, line, places = base .. 'lock:' .. key, base .. 'lockline:' .. key, base .. 'lockplaces:' .. key

redis.call('ZREM', base .. 'locks', '') -- starts with a removal, so that a full Redis still drains
if string.match(redis.call('HGET', places, run) or '', '^(%d+) ') == number then
  redis.call('ZREM', line, run)
  redis.call('HDEL', places, run)
  return 1
end
local r = redis.call('HMGET', lock, 'o', 'n')
if r[1] ~= run or r[2] ~= number then return 0 end
redis.call('ZREM', base .. 'lockgrants', run .. ' ' .. key)
local first = redis.call('ZRANGE', line, 0, 0)[1]
if first then
  pass_lock(base, key, first, server_now(ARGV[1]))
else
  redis.call('DEL', lock)
  redis.call('ZREM', base .. 'locks', key)
end
return 1

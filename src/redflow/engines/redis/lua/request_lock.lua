-- verb: request_lock
-- purpose: a claimed run asks for its mutex: it is the owner from now on, or stands in line
-- keys: 1 base
-- args: now, run, key, queue, score
-- replies: {granted, number}: granted is 1 or 0; number tells this place of the run from its earlier ones
-- Of a prefix of several shards; on the shard of the key. Asked again it answers the same. score: the place in line.
-- include: server_now
local base, run, key = KEYS[1], ARGV[2], ARGV[3]
local now, lock, places = server_now(ARGV[1]), base .. 'lock:' .. ARGV[3], base .. 'lockplaces:' .. ARGV[3]
local owner = redis.call('HGET', lock, 'o')
if owner and owner ~= run then
  local number = string.match(redis.call('HGET', places, run) or '', '^(%d+) ')
  number = number or string.format('%d', redis.call('INCR', base .. 'lockseq'))
  redis.call('ZADD', base .. 'lockline:' .. key, ARGV[5], run)
  redis.call('HSET', places, run, number .. ' ' .. ARGV[4])
  return { 0, number }
end
-- Also for its owner a new number: an audit that is under way has judged the old one.
local number = string.format('%d', redis.call('INCR', base .. 'lockseq'))
redis.call('HSET', lock, 'o', run, 'n', number, 'q', ARGV[4])
redis.call('ZADD', base .. 'locks', now + 5000, key)
redis.call('ZREM', base .. 'lockgrants', run .. ' ' .. key)
return { 1, number }

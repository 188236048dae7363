-- verb: bar_suspects
-- purpose: a worker takes no suspects on this shard as long as it holds one of another
-- keys: 1 base
-- args: worker, barred
-- replies: ok
-- barred: 1, or '' when that one has left it. See holds_suspect.
local key = KEYS[1] .. 'worker:' .. ARGV[1]
if redis.call('EXISTS', key) == 0 then return 'ok' end
if ARGV[2] == '1' then
  redis.call('HSET', key, 'suspect', '*')
elseif redis.call('HGET', key, 'suspect') == '*' then
  redis.call('HDEL', key, 'suspect')
end
return 'ok'

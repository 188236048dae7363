-- verb: record_shards
-- purpose: the first client of a prefix that is spread over shards writes down over how many
-- keys: 1 base
-- args: shards
-- replies: the number that is written down; 1 if the prefix has runs, events or workers of one shard
-- base is that of a prefix of one shard, whatever their number.
local base = KEYS[1]
local recorded = redis.call('GET', base .. 'shards')
if recorded then return tonumber(recorded) end
if redis.call('EXISTS', base .. 'seq', base .. 'eseq', base .. 'epoch', base .. 'metas', base .. 'workflows') > 0 then
  return 1
end
redis.call('SET', base .. 'shards', ARGV[1])
return tonumber(ARGV[1])

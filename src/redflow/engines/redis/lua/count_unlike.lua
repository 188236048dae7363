-- verb: count_unlike
-- purpose: how many workflows have metadata that is missing or tells another app or queue
-- keys: 1 base
-- args: app
-- item: name, queue
-- replies: the number; writes nothing
local base, unlike = KEYS[1], 0
for i = 2, #ARGV, 2 do
  local meta = redis.call('HMGET', base .. 'meta:' .. ARGV[i], 'app', 'queue')
  if meta[1] ~= ARGV[1] or meta[2] ~= ARGV[i + 1] then unlike = unlike + 1 end
end
return unlike

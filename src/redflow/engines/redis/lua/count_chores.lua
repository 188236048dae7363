-- verb: count_chores
-- purpose: what a worker has to look after: workflows with metadata that is missing or another's, cancels to carry on
-- keys: 1 base
-- args: app
-- item: name, queue
-- replies: {unlike, cascade}: how many workflows, and 1 if children of canceled runs are left; writes nothing
local base, unlike = KEYS[1], 0
for i = 2, #ARGV, 2 do
  local meta = redis.call('HMGET', base .. 'meta:' .. ARGV[i], 'app', 'queue')
  if meta[1] ~= ARGV[1] or meta[2] ~= ARGV[i + 1] then unlike = unlike + 1 end
end
return { unlike, redis.call('EXISTS', base .. 'cascade') }

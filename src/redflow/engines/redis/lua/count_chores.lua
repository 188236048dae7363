-- verb: count_chores
-- purpose: what a worker has to look after: workflows with metadata that is missing or another's, cancels to carry on
-- keys: 1 base
-- args: app
-- item: name, queue, events, crons
-- replies: {unlike, cascade}: how many workflows, and 1 if children of canceled runs are left; writes nothing
-- events and crons: how many triggers the workflow has; each cron trigger must be there itself, too.
-- include: event_pairs
local base, unlike = KEYS[1], 0

local function crons_of(triggers)
  local count = 0
  for trigger in string.gmatch(triggers, '%x+') do count = count + redis.call('EXISTS', base .. 'cron:' .. trigger) end
  return count
end

for i = 2, #ARGV, 4 do
  local meta = redis.call('HMGET', base .. 'meta:' .. ARGV[i], 'app', 'queue', 'events', 'crons')
  local stored, broken = event_pairs(meta[3])
  local events = broken and -1 or #stored
  if meta[1] ~= ARGV[1] or meta[2] ~= ARGV[i + 1] or events ~= tonumber(ARGV[i + 2])
    or crons_of(meta[4] or '') ~= tonumber(ARGV[i + 3]) then unlike = unlike + 1 end
end
return { unlike, redis.call('EXISTS', base .. 'cascade') }

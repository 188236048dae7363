-- verb: subscribe_workflow
-- purpose: make a workflow subscribe to exactly these events
-- keys: 1 base
-- args: workflow
-- item: trigger, event, contract
-- replies: ok | conflict, event (its subscribers have another contract; nothing was changed)
-- contract: canonical JSON Schema, '-' for none. meta:<workflow> remembers the triggers as JSON pairs (event, trigger).
-- include: drop_subscription
-- include: event_pairs
local base, workflow = KEYS[1], ARGV[1]
local meta, wanted, pairs_of = base .. 'meta:' .. workflow, {}, {}
for i = 2, #ARGV, 3 do
  local stored = redis.call('GET', base .. 'contract:' .. ARGV[i + 1])
  if stored and stored ~= ARGV[i + 2] then return { 'conflict', ARGV[i + 1] } end
  wanted[ARGV[i + 1] .. '\0' .. ARGV[i]] = true
  pairs_of[#pairs_of + 1] = { ARGV[i + 1], ARGV[i] }
end
for _, old in ipairs((event_pairs(redis.call('HGET', meta, 'events')))) do
  if not wanted[old[1] .. '\0' .. old[2]] then drop_subscription(base, old[1], old[2]) end
end
for i = 2, #ARGV, 3 do
  redis.call('HSET', base .. 'subs:' .. ARGV[i + 1], ARGV[i], workflow)
  redis.call('SADD', base .. 'subscribed', ARGV[i + 1])
  redis.call('SET', base .. 'contract:' .. ARGV[i + 1], ARGV[i + 2])
end
if #pairs_of > 0 then
  redis.call('HSET', meta, 'events', cjson.encode(pairs_of))
else
  redis.call('HDEL', meta, 'events')
end
return { 'ok' }

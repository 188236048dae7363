-- verb: remove_workflows
-- purpose: drop the metadata of an app's workflows that its registry no longer has and no live worker lists
-- keys: 1 base
-- args: now, app, quiet_ms
-- item: workflow (still in the registry)
-- replies: the names removed
-- A worker counts as alive for quiet_ms after its last heartbeat, so that two services sharing an app keep each other's.
-- include: server_now
-- include: drop_subscription
-- include: event_pairs
-- include: drop_cron
local base, app = KEYS[1], ARGV[2]
local now, kept, removed = server_now(ARGV[1]), {}, {}
local alive_after = now - tonumber(ARGV[3])
for i = 4, #ARGV do kept[ARGV[i]] = true end

local function listed(name)
  for _, worker in ipairs(redis.call('ZRANGEBYSCORE', base .. 'workers', alive_after, '+inf', 'LIMIT', 0, 200)) do
    if redis.call('SISMEMBER', base .. 'knows:' .. worker, name) == 1 then return true end
  end
  return false
end

for _, name in ipairs(redis.call('SMEMBERS', base .. 'metas')) do
  if not kept[name] and redis.call('HGET', base .. 'meta:' .. name, 'app') == app and not listed(name) then
    for _, old in ipairs((event_pairs(redis.call('HGET', base .. 'meta:' .. name, 'events')))) do
      drop_subscription(base, old[1], old[2])
    end
    for trigger in string.gmatch(redis.call('HGET', base .. 'meta:' .. name, 'crons') or '', '%x+') do
      drop_cron(base, trigger)
    end
    redis.call('DEL', base .. 'meta:' .. name)
    redis.call('SREM', base .. 'metas', name)
    removed[#removed + 1] = name
  end
end
return removed

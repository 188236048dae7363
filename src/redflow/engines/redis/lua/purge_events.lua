-- verb: purge_events
-- purpose: remove ended events whose retention is over: record, indexes, idempotency key, lookback pointer
-- keys: 1 base
-- args: now, limit
-- replies: how many events were removed
-- An event's name goes with its last event, and so does its contract if nothing subscribes to it.
-- include: server_now
-- include: event_place
local base, now, limit, purged = KEYS[1], server_now(ARGV[1]), tonumber(ARGV[2]), 0

local function forget_name(name)
  for _, status in ipairs({ 'pending', 'completed', 'partial', 'failed', 'no-subscribers' }) do
    if redis.call('EXISTS', base .. 'eidx:' .. status .. ':' .. name) == 1 then return end
  end
  redis.call('SREM', base .. 'event_names', name)
  if redis.call('EXISTS', base .. 'subs:' .. name) == 0 then redis.call('DEL', base .. 'contract:' .. name) end
end

local function forget_pointer(id, key)
  if redis.call('GET', key) == id then redis.call('DEL', key) end
end

local function purge_head(list, retention)
  local id = redis.call('LINDEX', list, 0)
  if not id then return false end
  local r = redis.pcall('HMGET', base .. 'event:' .. id, 'f', 'n', 'fan', 'ik', 'k') -- a broken one blocks no other
  local finished = tonumber(r[1] or '')
  if finished and finished + retention > now then return false end
  redis.call('LPOP', list)
  if r[1] then
    purged = purged + 1
    local name = r[2] or ''
    redis.call('ZREM', base .. 'eidx:' .. (r[3] or '') .. ':' .. name, id)
    if r[4] then forget_pointer(id, base .. 'evkey:' .. event_place(name, r[4])) end
    if r[5] then forget_pointer(id, base .. 'latest:' .. event_place(name, r[5])) end
    redis.call('UNLINK', base .. 'event:' .. id, base .. 'resumed:' .. id)
    forget_name(name)
  end
  return true
end

for _, retention in ipairs(redis.call('SMEMBERS', base .. 'eretentions')) do
  local list = base .. 'eexpiry:' .. retention
  while purged < limit and purge_head(list, tonumber(retention)) do end
  if redis.call('EXISTS', list) == 0 then redis.call('SREM', base .. 'eretentions', retention) end
end
return purged

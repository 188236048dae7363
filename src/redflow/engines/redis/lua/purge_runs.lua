-- verb: purge_runs
-- purpose: remove finished runs whose retention is over: record, steps, traces, payloads, index entries
-- keys: 1 base
-- args: now, limit
-- replies: how many runs were removed
-- Each retention has a list of its own in the order of finishing, so that only heads are looked at.
-- include: server_now
-- include: stored_id
-- include: end_debounce
-- include: other_shard
-- include: post_entry
local base = KEYS[1]
local now, limit, purged, looked = server_now(ARGV[1]), tonumber(ARGV[2]), 0, 0

local function forget_workflow(workflow)
  local keys = {}
  for i, status in ipairs({ 'scheduled', 'queued', 'running', 'succeeded', 'failed', 'canceled' }) do
    keys[i] = base .. 'idx:' .. status .. ':' .. workflow
  end
  if redis.call('EXISTS', unpack(keys)) == 0 then redis.call('SREM', base .. 'workflows', workflow) end
  if redis.call('EXISTS', base .. 'workflows') == 0 then redis.call('DEL', base .. 'queues') end
end

local function purge_head(key, retention)
  local id = redis.call('LINDEX', key, 0)
  if not id then return false end
  -- one that is no record must not block the list
  local r = redis.pcall('HMGET', base .. 'run:' .. id, 'f', 's', 'w', 'p', 'dk', 'og', 'rx')
  local finished, retried = tonumber(r[1] or ''), tonumber(r[7] or '0')
  if retried and retried > 0 then -- it stands here for an end that a retry has undone
    redis.call('LPOP', key)
    redis.call('HINCRBY', base .. 'run:' .. id, 'rx', -1)
    return true
  end
  if finished and finished + retention > now then return false end
  if tonumber(r[6] or '0') > 0 then return false end -- something of it is still on its way to another shard
  redis.call('LPOP', key)
  if r[1] then
    local workflow = r[3] or '' -- a broken record is removed like any other
    local index = base .. 'idx:' .. (r[2] or '') .. ':' .. workflow
    redis.call('ZREM', index, id)
    if redis.call('EXISTS', index) == 0 then forget_workflow(workflow) end
    local parent = r[4] and stored_id(r[4])
    if parent and other_shard(base, parent) then
      post_entry(base, 'disown - ' .. parent .. ' ' .. id)
    elseif parent then
      for _, kind in ipairs({ 'kids:', 'reached:' }) do redis.call('SREM', base .. kind .. parent, id) end
    end
    if r[5] then end_debounce(base, id, r[5]) end
    redis.call('UNLINK', base .. 'run:' .. id, base .. 'big:' .. id, base .. 'waiters:' .. id, base .. 'kids:' .. id,
      base .. 'reached:' .. id)
    purged = purged + 1
  end
  return true
end

for _, retention in ipairs(redis.call('SMEMBERS', base .. 'retentions')) do
  local key = base .. 'expiry:' .. retention
  while looked < limit and purge_head(key, tonumber(retention)) do looked = looked + 1 end
  if redis.call('EXISTS', key) == 0 then redis.call('SREM', base .. 'retentions', retention) end
end
return purged

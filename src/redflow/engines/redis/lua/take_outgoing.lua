-- verb: take_outgoing
-- purpose: acknowledge entries that were received, and take those that are to be brought to other shards
-- keys: 1 base
-- args: now, worker, limit, lease_ms, count
-- item: entry, outcome
-- replies: {now, next_due, locks, {entry, a, b, c, d} ...}: locks = 1 if audit_locks is to be called; a .. d by verb, see below
-- worker: who is rung for further entries for the next 15 s; '' for a client.
-- Taken ones, at most some 4 MiB, are left alone by others for lease_ms. outcome says what came of a `start` and a `resume`.
-- wake: status and payload of the child. cancel: reason. resume: number, time and id of the event, its place and its data. start:
-- workflow, data, parent, run id. Nothing follows an entry whose object is gone.
-- include: server_now
-- include: first_score
-- include: read_event
-- include: event_place
-- include: workflow_shard
-- include: delivery_run_id
-- include: packed_value
local base, now = KEYS[1], server_now(ARGV[1])

local function acknowledge(entry, outcome)
  if redis.call('ZREM', base .. 'outgoing', entry) == 0 then return end
  local data = redis.call('HGET', base .. 'outgoing_data', entry)
  if data then redis.call('HDEL', base .. 'outgoing_data', entry) end
  local kind, source, target, rest = string.match(entry, '^(%l+) (%S+) (%S+) (.*)$')
  local record = base .. 'run:' .. source
  if redis.call('EXISTS', record) == 1 and redis.call('HINCRBY', record, 'og', -1) <= 0 then
    redis.call('HDEL', record, 'og')
  end
  if kind == 'resume' and outcome == 'refused' then redis.call('SREM', base .. 'resumed:' .. data, target) end
  if kind ~= 'start' or outcome == '' then return end
  local event, field = base .. 'event:' .. rest, 'd:' .. target
  local delivery = cjson.decode(redis.call('HGET', event, field) or '[]')
  if delivery[1] ~= 'pending' then return end
  if outcome == 'failed' then
    delivery[1], delivery[4] = 'failed', { name = 'UnknownWorkflowError', kind = 'unknown_workflow',
      message = 'Unknown workflow: ' .. delivery[2] }
  else
    delivery[1], delivery[4] = 'delivered', outcome
  end
  redis.call('HSET', event, field, cjson.encode(delivery))
end

local function wake_of(child)
  local r = redis.call('HMGET', base .. 'run:' .. child, 's', 'o', 'e')
  if r[1] ~= 'succeeded' and r[1] ~= 'failed' and r[1] ~= 'canceled' then return end
  local name = r[1] == 'succeeded' and 'o' or 'e'
  local payload = r[1] == 'succeeded' and r[2] or r[3] or packed_value(base, child, name)
  if payload == '@' then payload = redis.call('HGET', base .. 'big:' .. child, name) end
  return r[1], payload or ''
end

local function resume_of(id)
  local event = id and read_event(base, id)
  if event then
    return string.format('%d %d %s', event.seq, event.ts, id), event_place(event.name, event.corr or ''), event.data
  end
end

local function start_of(trigger, id)
  local event = read_event(base, id)
  local delivery = event and cjson.decode(redis.call('HGET', base .. 'event:' .. id, 'd:' .. trigger) or '[]')
  if not delivery or delivery[1] ~= 'pending' then return end
  return delivery[2], event.data, event.parent, delivery_run_id(event, trigger, (workflow_shard(base, delivery[2])))
end

local function told(entry)
  local kind, source, target, rest = string.match(entry, '^(%l+) (%S+) (%S+) (.*)$')
  local data = redis.call('HGET', base .. 'outgoing_data', entry)
  if kind == 'wake' then return { entry, wake_of(source) } end
  if kind == 'resume' then return { entry, resume_of(data) } end
  if kind == 'start' then return { entry, start_of(target, rest) } end
  return { entry, data or '' }
end

if ARGV[2] ~= '' then
  redis.call('ZREMRANGEBYSCORE', base .. 'carriers', '-inf', now)
  redis.call('ZADD', base .. 'carriers', now + 15000, ARGV[2])
end
for i = 6, 5 + 2 * tonumber(ARGV[5]), 2 do acknowledge(ARGV[i], ARGV[i + 1]) end
local entries = redis.call('ZRANGEBYSCORE', base .. 'outgoing', '-inf', now, 'LIMIT', 0, ARGV[3])
local reply, size = { now, '', 0 }, 0
for _, entry in ipairs(entries) do
  if size < 4194304 then
    redis.call('ZADD', base .. 'outgoing', now + tonumber(ARGV[4]), entry)
    reply[#reply + 1] = told(entry)
    for i = 2, #reply[#reply] do size = size + #reply[#reply][i] end
  end
end
local audit = first_score(base .. 'locks')
reply[2], reply[3] = first_score(base .. 'outgoing'), audit ~= '' and tonumber(audit) <= now and 1 or 0
return reply

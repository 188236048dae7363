-- verb: accept_event
-- purpose: record an event once, then start its first pass: wake its waiters, start its subscribers' runs
-- keys: 1 base
-- args: now, id, explicit, name, data, correlation_key, parent, fingerprint, idempotency_key, idempotency_ttl, retention
-- replies: {code, id, final, runs, resumed} with code accepted | same (recorded before with the same data) | conflict (with other data)
-- resumed: the runs, or how many if they are many; then the set has them.
-- explicit = '1' when the caller chose the id. Keys come as '=' .. text, '' for none. final = 0: deliver_event goes on.
-- Sent again with the same id it finds the event it recorded.
-- include: server_now
-- include: event_place
-- include: scope_queue
-- include: set_fanout
-- include: read_event
-- include: fan_out
-- include: event_result
local base, id, explicit, name = KEYS[1], ARGV[2], ARGV[3] == '1', ARGV[4]
local now, key, fingerprint = server_now(ARGV[1]), KEYS[1] .. 'event:' .. ARGV[2], ARGV[8]
local idem = ARGV[9] ~= '' and base .. 'evkey:' .. event_place(name, string.sub(ARGV[9], 2))

local function answer(code, event_id)
  local runs, resumed = event_result(base, event_id)
  local status = redis.call('HGET', base .. 'event:' .. event_id, 'fan')
  return { code, event_id, status == 'pending' and 0 or 1, runs, resumed }
end

local function earlier_event()
  local by_id = redis.call('EXISTS', key) == 1 and id or nil
  local by_key = idem and redis.call('GET', idem) or nil
  if by_key and redis.call('EXISTS', base .. 'event:' .. by_key) == 0 then by_key = nil end
  if explicit and by_key and by_key ~= id then return by_key, true end
  return by_id or by_key, false
end

local earlier, conflict = earlier_event()
if earlier then
  conflict = conflict or redis.call('HGET', base .. 'event:' .. earlier, 'fp') ~= fingerprint
  if conflict then return { 'conflict', earlier, 1, {}, {} } end
  return answer('same', earlier)
end
local fields = { 'n', name, 'd', ARGV[5], 't', string.format('%d', now), 'fp', fingerprint, 'ret', ARGV[11],
  'q', redis.call('INCR', base .. 'eseq') }
local function add(field, value)
  fields[#fields + 1] = field
  fields[#fields + 1] = value
end
if ARGV[6] ~= '' then add('k', string.sub(ARGV[6], 2)) end
if ARGV[7] ~= '' then add('p', ARGV[7]) end
if idem then add('ik', string.sub(ARGV[9], 2)) end
local subscribers = redis.call('HGETALL', base .. 'subs:' .. name)
add('ns', #subscribers / 2)
redis.call('HSET', key, unpack(fields))
for i = 1, #subscribers, 2 do
  local workflow = subscribers[i + 1]
  local meta = redis.call('HMGET', base .. 'meta:' .. workflow, 'queue', 'app')
  local queue = scope_queue(meta[1] or '', meta[2])
  redis.call('HSET', key, 'd:' .. subscribers[i], cjson.encode({ 'pending', workflow, queue }))
end
set_fanout(base, id, name, now, '', 'pending')
redis.call('SADD', base .. 'event_names', name)
if idem then redis.call('SET', idem, id, 'EX', ARGV[10]) end
if ARGV[6] ~= '' then redis.call('SET', base .. 'latest:' .. event_place(name, string.sub(ARGV[6], 2)), id) end
fan_out(base, id, read_event(base, id), now, now + 30000)
return answer('accepted', id)

-- verb: receive_entries
-- purpose: what another shard decided reaches the runs of this one
-- keys: 1 base
-- args: now, retention
-- item: kind, source, target, rest, told, place, payload
-- replies: per item ok | refused (it has no object any more) | cascade (cancels are to be carried on here)
-- The kinds, in the form that post_entry writes (`<kind> <source> <target> <rest>`), and what take_outgoing told of them:
--   wake (child ended: told = how, payload), resume (told = `<number> <time> <event>`), moved (the child was merged into the run
--   that rest begins with), adopt, disown (rest = child), cancel (told = reason), grant (rest = `<number> <key>`).
-- An end or event whose step is not written yet is kept in the run's record. To receive an entry twice changes nothing.
-- include: server_now
-- include: resolve_child
-- include: resolve_wait
-- include: store_payload
-- include: rename_child
-- include: early_end
-- include: enter_child
-- include: cancel_one
-- include: cascade_from
-- include: enqueue_run
local base, now = KEYS[1], server_now(ARGV[1])
local receive = {}

local function step_of(run, field)
  local r = redis.call('HMGET', base .. 'run:' .. run, 's', field)
  local alive = r[1] == 'running' or r[1] == 'scheduled' or r[1] == 'queued'
  return alive, r[2] or ''
end

function receive.wake(child, parent, field, to, _, payload)
  local alive, packed = step_of(parent, field)
  if not alive then return 'refused' end
  local of = string.match(packed, '^%d+ %uc %d+ %-?%d+ %S+ %S (%x+) %d+ %l+ ')
  if of == child then
    resolve_child(base, child, to, payload, parent, field)
  else
    local name = 'w:' .. child .. ':' .. field
    redis.call('HSET', base .. 'run:' .. parent, name, to .. ' ' .. store_payload(base, parent, name, payload))
  end
  return 'ok'
end

function receive.moved(from, parent, rest)
  local to, field = string.sub(rest, 1, 32), string.sub(rest, 34)
  local alive, packed = step_of(parent, field)
  if not alive then return 'refused' end
  if rename_child(base, parent, field, from, to) then
    early_end(base, parent, field, to)
  elseif not string.find(packed, to, 1, true) then
    redis.call('HSET', base .. 'run:' .. parent, 'w:' .. from .. ':' .. field, 'moved ' .. to)
  end
  return 'ok'
end

function receive.resume(_, run, field, told, place, payload)
  local alive, packed = step_of(run, field)
  if not alive then return 'refused' end
  local seq, ts, id = string.match(told, '^(%d+) (%d+) (.*)$')
  local event = { seq = seq, ts = ts, id = id, data = payload }
  if resolve_wait(base, run, field, place, event) then return 'ok' end
  if string.find(packed, '^%d+ [RS]e ') then
    return string.find(packed, ' ' .. #id .. ' ' .. id .. ' ', 1, true) and 'ok' or 'refused'
  end
  redis.call('HSET', base .. 'run:' .. run, 'w:' .. field, string.format('%s %s %d %s ', seq, ts, #id, id)
    .. store_payload(base, run, 'w:' .. field, payload))
  return 'ok'
end

function receive.adopt(child, parent) return enter_child(base, child, parent) and 'cascade' or 'ok' end

function receive.disown(_, parent, child)
  for _, kind in ipairs({ 'kids:', 'reached:' }) do redis.call('SREM', base .. kind .. parent, child) end
  return 'ok'
end

function receive.cancel(_, run, _, reason)
  if cancel_one(base, run, reason, now, ARGV[2]) == 'finished' then cascade_from(base, run, reason) end
  return redis.call('HEXISTS', base .. 'cascade', run) == 1 and 'cascade' or 'ok'
end

function receive.grant(_, run, rest)
  local number, key = string.match(rest, '^(%d+) (.*)$')
  local r = redis.call('HMGET', base .. 'run:' .. run, 's', 'mk', 'mn', 'q')
  if r[1] == 'running' then
    if r[2] ~= key or r[3] ~= number then redis.call('HSET', base .. 'run:' .. run, 'mg', number) end
    return 'ok'
  end
  if r[1] ~= 'queued' or r[2] ~= key or r[3] ~= number then return 'refused' end
  if not redis.call('ZSCORE', base .. 'ready:' .. r[4], run) then enqueue_run(base, run, r[4], true) end
  return 'ok'
end

redis.call('ZREM', base .. 'leases', '') -- starts with a removal, so that a full Redis still drains
local reply = {}
for i = 3, #ARGV, 7 do
  reply[#reply + 1] = receive[ARGV[i]](ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], ARGV[i + 5], ARGV[i + 6])
end
return reply

-- verb: open_wait
-- purpose: a step begins to wait for an event; one that was emitted since the run was created satisfies it at once
-- keys: 1 base
-- args: now, id, fence, token, field, header, event, correlation_key, deadline
-- replies: open | found | cancel | timeout | stale | gone | settled
-- header: the packed step header, running. Sent again it changes nothing.
-- include: server_now
-- include: owned_run
-- include: event_place
-- include: read_event
-- include: resolve_wait
local base, id, field, header = KEYS[1], ARGV[2], ARGV[5], ARGV[6]
local now, deadline = server_now(ARGV[1]), tonumber(ARGV[9])
local place = event_place(ARGV[7], ARGV[8])
local key, waiting, pointer = base .. 'run:' .. id, base .. 'waiting:' .. place, base .. 'latest:' .. place

local function newest_event()
  local latest = redis.call('GET', pointer)
  if not latest then return nil end
  local event = read_event(base, latest)
  if not event then
    redis.call('DEL', pointer)
    return nil
  end
  local r = redis.call('HMGET', key, 'c', 'v:' .. place)
  if event.ts < tonumber(r[1]) or (r[2] and event.seq <= tonumber(r[2])) or now > deadline then return nil end
  return event
end

redis.call('ZREM', base .. 'leases', '')
local run, reason = owned_run(base, id, ARGV[3], ARGV[4])
if not run then return reason end
if run.cancel then return 'cancel' end
if run.decided then return 'timeout' end
if string.find(redis.call('HGET', key, field) or '', '^%d+ Re %d+ %-?%d+ %- E ') then return 'found' end
redis.call('HSET', key, field, header .. '- ' .. string.format('%d', deadline) .. ' ' .. #place .. ' ' .. place .. ' ')
local event = newest_event()
if event and resolve_wait(base, id, field, place, event) then return 'found' end
redis.call('ZADD', waiting, deadline, id .. ' ' .. field)
local last = redis.call('ZRANGE', waiting, -1, -1, 'WITHSCORES')
redis.call('PEXPIREAT', waiting, string.format('%d', tonumber(last[2]) + 60000))
return 'open'

-- verb: register_wait
-- purpose: enter a step of a run on another shard among those that wait for an event, or send it one that was emitted before
-- keys: 1 base
-- args: now, run, field, event, correlation_key, deadline, created, received
-- replies: open | given (an event is on its way to the step)
-- created: of the run; received: number of the last event that a wait of this place got, '' for none. At home, before the step
-- is written. Sent again it changes nothing.
-- include: server_now
-- include: event_place
-- include: read_event
-- include: give_event
local base, run, field = KEYS[1], ARGV[2], ARGV[3]
local now, place, deadline = server_now(ARGV[1]), event_place(ARGV[4], ARGV[5]), tonumber(ARGV[6])
local waiting, pointer, got = base .. 'waiting:' .. place, base .. 'latest:' .. place, base .. 'got:' .. place

local function newest_event()
  local latest = redis.call('GET', pointer)
  local event = latest and read_event(base, latest)
  if latest and not event then redis.call('DEL', pointer) end
  if not event or event.ts < tonumber(ARGV[7]) or now > deadline then return nil end
  local received = math.max(tonumber(ARGV[8]) or 0, tonumber(redis.call('HGET', got, run) or '0'))
  return event.seq > received and event or nil
end

redis.call('ZREM', base .. 'outbox', '')
if redis.call('ZSCORE', base .. 'outgoing', 'resume - ' .. run .. ' ' .. field) then return 'given' end
local event = newest_event()
if event then
  give_event(base, run, field, place, event)
  return 'given'
end
redis.call('ZADD', waiting, deadline, run .. ' ' .. field)
local last = redis.call('ZRANGE', waiting, -1, -1, 'WITHSCORES')
redis.call('PEXPIREAT', waiting, string.format('%d', tonumber(last[2]) + 60000))
if ARGV[8] ~= '' then
  if tonumber(ARGV[8]) > tonumber(redis.call('HGET', got, run) or '0') then redis.call('HSET', got, run, ARGV[8]) end
  if redis.call('PTTL', got) < tonumber(last[2]) - now + 60000 then
    redis.call('PEXPIREAT', got, string.format('%d', tonumber(last[2]) + 60000))
  end
end
return 'open'

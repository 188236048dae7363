-- verb: promote_runs
-- purpose: move scheduled runs whose time has come to the back of their queues, and the lines of throttles on
-- keys: 1 base
-- args: now, limit
-- replies: {now, next_due, promoted}; next_due may be over: there are more, or time_out_runs is to be called
-- From a throttle's line as many runs become ready as its next window has room for; that room is theirs from now on.
-- include: server_now
-- include: ready_run
-- include: throttle_room
-- include: tend_throttle
-- include: next_due
local base = KEYS[1]
local now, limit = server_now(ARGV[1]), tonumber(ARGV[2])
local promoted, released = 0, 0

local function promote(id, grant)
  local r = redis.call('HMGET', base .. 'run:' .. id, 's', 'w', 'c', 'q', 'u', 'pr')
  if r[1] ~= 'scheduled' then return false end
  if grant then redis.call('HSET', base .. 'run:' .. id, 'tg', 1) end
  ready_run(base, id, { workflow = r[2], created = r[3], queue = r[4], unregistered = r[5], priority = r[6] })
  return true
end

local function move_on(place)
  local room = math.min(throttle_room(base, place, now), limit - released)
  local first = room > 0 and redis.call('ZPOPMIN', base .. 'throttleline:' .. place, room) or {}
  for i = 1, #first, 2 do
    if promote(first[i], true) then
      redis.call('HINCRBY', base .. 'throttle:' .. place, 'g', 1)
      released = released + 1
    end
  end
  tend_throttle(base, place, now)
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', base .. 'due', '-inf', now, 'LIMIT', 0, limit)) do
  redis.call('ZREM', base .. 'due', id)
  if promote(id) then promoted = promoted + 1 end
end
for _, place in ipairs(redis.call('ZRANGEBYSCORE', base .. 'throttled', '-inf', now, 'LIMIT', 0, 50)) do
  if released < limit then move_on(place) end
end
return { now, next_due(base), promoted + released }

-- verb: admit_run
-- purpose: let a claimed run pass its mutex, rate limit and throttle, all or nothing, or put it where it has to wait
-- keys: 1 base
-- args: now, id, fence, token, first, mutex, rate_key, rate_limit, rate_period, throttle_key, throttle_limit, throttle_period
-- replies: {code, now, retry_after}: admitted | mutex_wait | throttled (the claim is taken back) | rate_limited (the run is
--   to fail; retry_after ms are left) | canceled (a cancel request came first) | stale | gone | settled (nothing was done)
-- A key of '' stands for an option that is not set; times in ms. first = '1': nothing of the run was ever executed, so it
-- pays budget, once: field ad is the last attempt that was admitted. Sent again it answers admitted or settled.
-- include: server_now
-- include: owned_run
-- include: unclaim_run
-- include: leave_mutex
-- include: leave_throttle
-- include: throttle_room
-- include: tend_throttle
-- include: end_debounce
-- include: start_clock
-- include: rate_window
local base, now, id = KEYS[1], server_now(ARGV[1]), ARGV[2]
local key, mutex, sharded = base .. 'run:' .. id, ARGV[6], string.find(KEYS[1], '/%d+}:$') -- then note_lock gave it the mutex
local rate = { key = ARGV[7], limit = tonumber(ARGV[8]), period = tonumber(ARGV[9]) }
local throttle = { key = ARGV[10], limit = ARGV[11], period = tonumber(ARGV[12]) }

local function wait_for_mutex(run, first)
  if run.line then leave_throttle(base, id, run.line, now) end
  unclaim_run(base, id, run, 'queued', first)
  redis.call('HSET', key, 'mk', mutex)
  redis.call('ZADD', base .. 'mutexline:' .. mutex, first and run.created or now, id)
  return 'mutex_wait'
end

local function pay_rate(place, left)
  local window = base .. 'rate:' .. place
  if left > 0 then
    redis.call('HINCRBY', window, 'n', 1)
  else
    redis.call('HSET', window, 'e', string.format('%d', now + rate.period), 'n', 1)
    redis.call('PEXPIRE', window, rate.period)
  end
end

local function is_throttled(place, granted)
  redis.call('HSET', base .. 'throttle:' .. place, 'l', throttle.limit)
  if granted then return false end
  return redis.call('EXISTS', base .. 'throttleline:' .. place) == 1 or throttle_room(base, place, now) <= 0
end

local function stand_in_line(place, run)
  local _, ends = throttle_room(base, place, now)
  unclaim_run(base, id, run, 'scheduled', true)
  redis.call('HSET', key, 'tl', place, 'd', string.format('%d', ends or now + throttle.period))
  redis.call('ZADD', base .. 'throttleline:' .. place, run.created, id)
  tend_throttle(base, place, now)
  return 'throttled'
end

local function pay_throttle(place, granted)
  local window = base .. 'throttle:' .. place
  local _, ends = throttle_room(base, place, now)
  if ends then
    redis.call('HINCRBY', window, 'n', 1)
  else
    redis.call('HSET', window, 'e', string.format('%d', now + throttle.period), 'n', 1)
  end
  if granted then
    redis.call('HINCRBY', window, 'g', -1)
    redis.call('HDEL', key, 'tl', 'tg')
  end
  tend_throttle(base, place, now)
end

local function admit(run)
  local r = redis.call('HMGET', key, 'a', 'ad', 'tg', 'dk', 'to')
  local first = ARGV[5] == '1' and not r[2]
  local prefix = #run.workflow .. ':' .. run.workflow .. ':'
  local rated, throttled = rate.key ~= '' and prefix .. rate.key, throttle.key ~= '' and prefix .. throttle.key
  if run.mutex and run.mutex ~= mutex then leave_mutex(base, id, run.mutex, now) end
  local owner = mutex ~= '' and (sharded and id or redis.call('GET', base .. 'mutex:' .. mutex))
  if owner and owner ~= id then return wait_for_mutex(run, first) end
  if run.line and run.line ~= throttled then
    leave_throttle(base, id, run.line, now)
    r[3] = false
  end
  local left, used = 0
  if first and rated then
    left, used = rate_window(base, rated, now)
    if used >= rate.limit then
      if owner then leave_mutex(base, id, mutex, now) end
      if run.line then leave_throttle(base, id, run.line, now) end
      return 'rate_limited', left
    end
  end
  if first and throttled and is_throttled(throttled, r[3]) then
    if owner then leave_mutex(base, id, mutex, now) end
    return stand_in_line(throttled, run)
  end
  if mutex ~= '' and not sharded then
    redis.call('SET', base .. 'mutex:' .. mutex, id)
    redis.call('HSET', key, 'mk', mutex)
    redis.call('ZREM', base .. 'grants', id)
  end
  if first and rated then pay_rate(rated, left) end
  if first and throttled then pay_throttle(throttled, r[3]) end
  redis.call('HSET', key, 'ad', r[1])
  if first then
    redis.call('HSET', key, 't', string.format('%d', now))
    start_clock(base, id, now, r[5])
  end
  if r[4] then end_debounce(base, id, r[4]) end
  return 'admitted'
end

redis.call('ZREM', base .. 'leases', '') -- starts with a removal, so that a full Redis still drains
local run, reason = owned_run(base, id, ARGV[3], ARGV[4])
if not run then return { reason, now, 0 } end
if run.cancel then return { 'canceled', now, 0 } end
local code, retry_after = admit(run)
return { code, now, retry_after or 0 }

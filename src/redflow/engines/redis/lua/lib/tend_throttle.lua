-- After a change at a throttle: when its line moves on, and how long its window is kept. With all of the budget granted and
-- no window open the line has no time: the admission of a granted run sets it.
-- include: throttle_room
local function tend_throttle(base, place, now)
  local window, times = base .. 'throttle:' .. place, base .. 'throttled'
  local room, ends = throttle_room(base, place, now)
  if redis.call('EXISTS', base .. 'throttleline:' .. place) == 0 then
    redis.call('ZREM', times, place)
    if tonumber(redis.call('HGET', window, 'g') or '0') > 0 then
      redis.call('PERSIST', window)
    else
      redis.call('PEXPIRE', window, ends and ends - now or 1)
    end
    return
  end
  redis.call('PERSIST', window)
  local at = room > 0 and now or ends
  if not at then
    redis.call('ZREM', times, place)
  elseif tonumber(redis.call('ZSCORE', times, place) or '-1') ~= at then
    redis.call('ZADD', times, at, place)
    redis.call('PUBLISH', base .. 'timers', string.format('%d', at))
  end
end

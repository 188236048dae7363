-- The time-out of a run, if it has one (limit, ms), counts from now on: its first start.
local function start_clock(base, id, now, limit)
  if not limit then return end
  local ends = string.format('%d', now + tonumber(limit))
  redis.call('HSET', base .. 'run:' .. id, 'ta', ends)
  redis.call('ZADD', base .. 'timeouts', ends, id)
end

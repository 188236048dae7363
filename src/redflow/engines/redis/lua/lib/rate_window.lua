-- The present window of a rate limit: ms that are left of it (0 or less: none is open), and how many it has admitted.
local function rate_window(base, place, now)
  local w = redis.call('HMGET', base .. 'rate:' .. place, 'e', 'n')
  local left = (tonumber(w[1] or '0')) - now
  return left, left > 0 and tonumber(w[2]) or 0
end

-- How many more runs may pass a throttle in its present window, and when that ends (nil: no window is open).
-- A window is opened by the first run that is admitted; e end, n admitted in it, g granted: left the line, not yet admitted.
local function throttle_room(base, place, now)
  local w = redis.call('HMGET', base .. 'throttle:' .. place, 'e', 'n', 'g', 'l')
  local ends = tonumber(w[1] or '0')
  if ends <= now then ends = nil end
  return tonumber(w[4] or '1') - (ends and tonumber(w[2]) or 0) - tonumber(w[3] or '0'), ends
end

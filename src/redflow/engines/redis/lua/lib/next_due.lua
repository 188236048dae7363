-- When the next scheduled run, or the next line of a throttle, becomes ready; '' if none does.
-- include: first_score
local function next_due(base)
  local due, throttled = first_score(base .. 'due'), first_score(base .. 'throttled')
  if due == '' or (throttled ~= '' and tonumber(throttled) < tonumber(due)) then return throttled end
  return due
end

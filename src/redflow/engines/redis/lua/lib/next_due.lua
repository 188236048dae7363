-- When the next scheduled run, or the next line of a throttle, becomes ready, or a run times out; '' if none does.
-- include: first_score
local function next_due(base)
  local earliest = ''
  if redis.call('EXISTS', base .. 'due', base .. 'throttled', base .. 'timeouts') == 0 then return earliest end
  for _, set in ipairs({ 'due', 'throttled', 'timeouts' }) do
    local at = first_score(base .. set)
    if at ~= '' and (earliest == '' or tonumber(at) < tonumber(earliest)) then earliest = at end
  end
  return earliest
end

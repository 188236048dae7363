-- The run behind a lease, or nil and the reason why this holder may no longer write to it:
-- gone | stale (another claim, or recovered) | settled (this very claim ended it already: a call sent again).
local function owned_run(base, id, fence, token)
  local key = base .. 'run:' .. id
  local r = redis.call('HMGET', key, 's', 'n', 'k', 'cr', 'w', 'c', 'x', 'q', 'mk', 'tl', 'z', 'ta', 'dk')
  if not r[1] then return nil, 'gone' end
  if r[2] ~= fence or r[3] ~= token then return nil, 'stale' end
  if r[1] ~= 'running' then return nil, 'settled' end
  return { status = r[1], cancel = r[4], workflow = r[5], created = r[6], deaths = r[7], queue = r[8],
    mutex = r[9], line = r[10], decided = r[11], timeout = r[12], debounce = r[13] }
end

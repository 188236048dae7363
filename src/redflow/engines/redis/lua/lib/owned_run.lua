-- The run behind a lease, or nil and the reason why this holder may no longer write to it:
-- gone | stale (another claim, or recovered) | settled (this very claim ended it already: a call sent again).
-- brief: only what says whether the run goes on is read: cancel, deaths, decided, timeout.
local function owned_run(base, id, fence, token, brief)
  local key, read = base .. 'run:' .. id, redis.call
  local r = brief and read('HMGET', key, 's', 'n', 'k', 'cr', 'x', 'z', 'ta')
    or read('HMGET', key, 's', 'n', 'k', 'cr', 'x', 'z', 'ta', 'w', 'c', 'q', 'mk', 'tl', 'dk', 'e')
  if not r[1] then return nil, 'gone' end
  if r[2] ~= fence or r[3] ~= token then return nil, 'stale' end
  if r[1] ~= 'running' then return nil, 'settled' end
  if brief then return { cancel = r[4], deaths = r[5], decided = r[6], timeout = r[7] } end
  return { status = r[1], cancel = r[4], deaths = r[5], decided = r[6], timeout = r[7], workflow = r[8], created = r[9],
    queue = r[10], mutex = r[11], line = r[12], debounce = r[13], error = r[14] }
end

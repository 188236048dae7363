-- The run that a debounce holds back, as long as it has not started; else nil.
local function debounced_run(base, place)
  local id = redis.call('GET', base .. 'debounce:' .. place)
  if not id then return nil end
  local r = redis.call('HMGET', base .. 'run:' .. id, 's', 'a', 'dk', 'dd', 'di', 'c')
  if r[1] ~= 'queued' and r[1] ~= 'scheduled' then return nil end
  if r[2] or r[3] ~= place then return nil end
  local given, by = string.match(r[5] or '', '^(%d+) (%x+)$')
  return { id = id, deadline = tonumber(r[4] or ''), given = tonumber(given or r[6]), by = by or id }
end

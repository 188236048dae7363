-- Ends a run that can't be claimed since its record is broken, so that it doesn't take the others of the claim down, nor
-- comes back for ever. One that is no record of a run at all is left where it is.
-- include: finish_run
local function quarantine_run(base, id, now, retention)
  local key = base .. 'run:' .. id
  local r = redis.pcall('HMGET', key, 'w', 's', 'c', 'a', 'n')
  if r.err or not r[1] then return end
  local created = string.format('%d', tonumber(r[3] or '') or now)
  local attempt, fence = tonumber(r[4] or '0') or 0, tonumber(r[5] or '0') or 0
  redis.call('HSET', key, 'c', created, 'a', string.format('%d', attempt), 'n', string.format('%d', fence))
  finish_run(base, id, { workflow = r[1], status = r[2], created = created }, 'failed',
    '{"name":"RedflowError","message":"the stored record of the run is broken","kind":"error"}', now, retention)
end

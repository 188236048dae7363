-- What a claim needs of a run that stood in a ready line: w s c q a n cr z r t m i x to; nil if there is nothing to start.
-- A record with a broken number ends its run here, so that it doesn't take the other runs of the claim down.
-- include: finish_run
local function read_ready_run(base, id, now, retention)
  local key = base .. 'run:' .. id
  local run = redis.pcall('HMGET', key, 'w', 's', 'c', 'q', 'a', 'n', 'cr', 'z', 'r', 't', 'm', 'i', 'x', 'to')
  if run.err or not run[1] or not run[4] then return nil end
  if run[2] ~= 'queued' and run[2] ~= 'running' then return nil end
  local created, attempt, fence = tonumber(run[3] or ''), tonumber(run[5] or '0'), tonumber(run[6] or '0')
  if created and attempt and fence then return run end
  created = string.format('%d', created or now)
  redis.call('HSET', key, 'c', created, 'a', string.format('%d', attempt or 0), 'n', string.format('%d', fence or 0))
  finish_run(base, id, { workflow = run[1], status = run[2], created = created }, 'failed',
    '{"name":"RedflowError","message":"the stored record of the run is broken","kind":"error"}', now, retention)
  return nil
end

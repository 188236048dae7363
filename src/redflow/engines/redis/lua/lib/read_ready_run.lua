-- What a claim needs of a run that stood in a ready line: w s c q a n cr r m i x to, a and n as numbers; nil if there is
-- nothing to start. Raises an error if one of the numbers is none.
local function read_ready_run(base, id)
  local run = redis.pcall('HMGET', base .. 'run:' .. id, 'w', 's', 'c', 'q', 'a', 'n', 'cr', 'r', 'm', 'i', 'x', 'to')
  if run.err or not run[1] or not run[4] then return nil end
  if run[2] ~= 'queued' and run[2] ~= 'running' then return nil end
  run[5], run[6] = tonumber(run[5] or '0'), tonumber(run[6] or '0')
  if not (tonumber(run[3] or '') and run[5] and run[6]) then error('a number of run ' .. id .. ' is none') end
  return run
end

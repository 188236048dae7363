-- The runs that a claim took and still holds, as it answered them: for a claim that is sent again.
-- ids = what the worker's record tells of that claim.
local function claimed_runs(base, ids, token)
  local runs = {}
  for id in string.gmatch(ids, '%x+') do
    local run = redis.call('HMGET', base .. 'run:' .. id, 's', 'k', 'n', 'a')
    if run[1] == 'running' and run[2] == token then
      runs[#runs + 1] = { id, tonumber(run[3]), tonumber(run[4]), redis.call('HGETALL', base .. 'run:' .. id) }
    end
  end
  return runs
end

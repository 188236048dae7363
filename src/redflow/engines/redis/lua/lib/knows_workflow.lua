-- Whether a worker can run a workflow; asked once in a call of the script, which serves one worker.
local known = {}

local function knows_workflow(base, worker, name)
  if known[name] == nil then known[name] = redis.call('SISMEMBER', base .. 'knows:' .. worker, name) == 1 end
  return known[name]
end

-- What is registered of a workflow, as far as a new run needs it; app and queue are nil while nobody registered it.
local function run_metadata(base, workflow)
  local m = redis.call('HMGET', base .. 'meta:' .. workflow, 'app', 'queue', 'max_attempts', 'priority', 'run_timeout')
  return { app = m[1] or nil, queue = m[2] or nil, max_attempts = m[3] or '3', priority = m[4] or '0',
    run_timeout = m[5] or '' }
end

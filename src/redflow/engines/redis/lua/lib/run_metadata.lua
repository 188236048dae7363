-- What is registered of a workflow, as far as a new run needs it; all nil while nobody registered it.
local function run_metadata(base, workflow)
  local m = redis.call('HMGET', base .. 'meta:' .. workflow, 'app', 'queue', 'max_attempts')
  return { app = m[1] or nil, queue = m[2] or nil, max_attempts = m[3] or nil }
end

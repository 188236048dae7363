-- What is registered of a workflow, as far as a new run needs it; app and queue are nil while nobody registered it.
-- Read once in a call of the script.
local metadata_read = {}

local function run_metadata(base, workflow)
  local known = metadata_read[workflow]
  if known then return known end
  local m = redis.call('HMGET', base .. 'meta:' .. workflow, 'app', 'queue', 'max_attempts', 'priority', 'run_timeout')
  metadata_read[workflow] = { app = m[1] or nil, queue = m[2] or nil, max_attempts = m[3] or '3',
    priority = m[4] or '0', run_timeout = m[5] or '' }
  return metadata_read[workflow]
end

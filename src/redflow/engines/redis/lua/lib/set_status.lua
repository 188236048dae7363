-- The only place that writes a run's status. Moves the run between the (status, workflow) indexes too, so
-- that counts and lists can't drift from the records. from = '' for a run that is being created. fields (name, value ...)
-- may be nil; they are written along with the status, in one command.
local allowed_transitions = {
  ['new'] = { queued = true, scheduled = true },
  scheduled = { queued = true, canceled = true, failed = true },
  queued = { running = true, canceled = true, failed = true, scheduled = true },
  running = { succeeded = true, failed = true, canceled = true, scheduled = true, queued = true },
}

local function set_status(base, id, workflow, created, from, to, fields)
  local row = allowed_transitions[from == '' and 'new' or from]
  if not (row and row[to]) then
    error('redflow: illegal transition ' .. from .. ' -> ' .. to .. ' of run ' .. id)
  end
  if from ~= '' then redis.call('ZREM', base .. 'idx:' .. from .. ':' .. workflow, id) end
  redis.call('HSET', base .. 'run:' .. id, 's', to, unpack(fields or {}))
  redis.call('ZADD', base .. 'idx:' .. to .. ':' .. workflow, created, id)
end

-- The only place that writes a run's status. Moves the run between the (status, workflow) indexes too, so that counts and
-- lists can't drift from the records. A failed run becomes queued by an operator's retry only. from = '' for a run that is
-- being created. More fields (name, value ...) are written along with the status, in one command. created is a text.
-- include: index_run
-- include: write_indexes
local allowed_transitions = {
  ['new'] = { queued = true, scheduled = true },
  scheduled = { queued = true, canceled = true, failed = true },
  queued = { running = true, canceled = true, failed = true, scheduled = true },
  failed = { queued = true },
  running = { succeeded = true, failed = true, canceled = true, scheduled = true, queued = true },
}
local moved = {}

local function set_status(base, id, workflow, created, from, to, ...)
  local row = allowed_transitions[from == '' and 'new' or from]
  if not (row and row[to]) then
    error('redflow: illegal transition ' .. from .. ' -> ' .. to .. ' of run ' .. id)
  end
  if collected.ZADD then -- what a batch collected of one run must come before its second move
    local refused = moved[id] and write_indexes()
    if refused then error(refused, 0) end
    moved[id] = true
  end
  if from ~= '' then index_run('ZREM', base .. 'idx:' .. from .. ':' .. workflow, id) end
  redis.call('HSET', base .. 'run:' .. id, 's', to, ...)
  index_run('ZADD', base .. 'idx:' .. to .. ':' .. workflow, id, created)
end

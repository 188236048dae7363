-- A wait of this run was decided: a sleeping run becomes ready, the holder of a running one is told.
-- include: set_status
-- include: enqueue_run
local function wake_run(base, id)
  local r = redis.call('HMGET', base .. 'run:' .. id, 's', 'r', 'k', 'w', 'c', 'q', 'pr')
  if r[1] == 'scheduled' and r[2] then
    redis.call('ZREM', base .. 'due', id)
    redis.call('HDEL', base .. 'run:' .. id, 'd')
    set_status(base, id, r[4], r[5], 'scheduled', 'queued')
    enqueue_run(base, id, r[6], false, r[7])
  elseif r[1] == 'running' and r[3] then
    redis.call('PUBLISH', base .. 'worker:' .. string.match(r[3], '^(%w+)'), 'wake ' .. id)
  end
end

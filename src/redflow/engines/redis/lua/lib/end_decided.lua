-- A run whose failure is decided leaves whoever executes it, or its sleep: it ends, or, if its workflow has an on_failure,
-- it goes before all others of its queue, so that a worker calls that within the same attempt.
-- run = {workflow, status, created, queue}
-- include: decided_error
-- include: finish_run
-- include: set_status
-- include: enqueue_run
local function end_decided(base, id, run, now, retention)
  local key = base .. 'run:' .. id
  if redis.call('HGET', base .. 'meta:' .. run.workflow, 'on_failure') ~= '1' then
    local failure = decided_error(base, id, redis.call('HGET', key, 'z'))
    return finish_run(base, id, run, 'failed', failure, now, retention)
  end
  redis.call('ZREM', base .. 'leases', id)
  redis.call('HDEL', key, 'k', 'd')
  if run.status ~= 'running' then redis.call('HSET', key, 'r', 1) end
  if run.status == 'scheduled' then set_status(base, id, run.workflow, run.created, 'scheduled', 'queued') end
  enqueue_run(base, id, run.queue, true)
end

-- Makes a scheduled run ready: at the back of its priority, or parked (u) as long as nobody registered its workflow.
-- run = {workflow, created, queue, unregistered, priority}
-- include: set_status
-- include: enqueue_run
-- include: next_seq
-- include: scope_queue
local function ready_run(base, id, run)
  local key, queue = base .. 'run:' .. id, run.queue
  set_status(base, id, run.workflow, run.created, 'scheduled', 'queued')
  redis.call('HDEL', key, 'd')
  if run.unregistered then
    local app = redis.call('HGET', base .. 'meta:' .. run.workflow, 'app')
    if not app then
      redis.call('ZADD', base .. 'parked:' .. run.workflow, next_seq(base), id)
      return
    end
    queue = scope_queue(queue, app)
    redis.call('HDEL', key, 'u')
    redis.call('HSET', key, 'q', queue)
  end
  enqueue_run(base, id, queue, false, run.priority)
end

-- Takes a run that can't start now out of its queue's way, its place in the order kept: into the `line` for a slot
-- of its workflow, or into the `stray` line, if the worker that met it doesn't know the workflow. A mutex that was granted
-- to a run which now has to wait for a slot goes to the next.
-- include: line_key
-- include: leave_mutex
local function set_aside(base, kind, queue, workflow, id, score, now)
  redis.call('ZADD', line_key(base, kind, queue, workflow), score, id)
  if kind == 'line' then
    redis.call('SADD', base .. 'lined:' .. workflow, queue)
    redis.call('SADD', base .. 'lined', workflow)
    local mutex = redis.call('HGET', base .. 'run:' .. id, 'mk')
    if mutex then leave_mutex(base, id, mutex, now) end
  else
    redis.call('ZADD', base .. 'strays', 'NX', now, #queue .. ':' .. queue .. ':' .. workflow)
  end
end

-- Takes a run that can't start now out of its queue's way, its place in the order kept: into the `line` for a slot
-- of its workflow, or into the `stray` line, if the worker that met it doesn't know the workflow.
-- include: line_key
local function set_aside(base, kind, queue, workflow, id, score, now)
  redis.call('ZADD', line_key(base, kind, queue, workflow), score, id)
  if kind == 'line' then
    redis.call('SADD', base .. 'lined:' .. workflow, queue)
    redis.call('SADD', base .. 'lined', workflow)
  else
    redis.call('ZADD', base .. 'strays', 'NX', now, #queue .. ':' .. queue .. ':' .. workflow)
  end
end

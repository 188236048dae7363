-- Undoes what set_aside noted of a line, once that line is empty.
-- include: line_key
local function forget_line(base, kind, queue, workflow)
  if redis.call('EXISTS', line_key(base, kind, queue, workflow)) == 1 then return end
  if kind == 'stray' then
    redis.call('ZREM', base .. 'strays', #queue .. ':' .. queue .. ':' .. workflow)
    return
  end
  redis.call('SREM', base .. 'lined:' .. workflow, queue)
  if redis.call('EXISTS', base .. 'lined:' .. workflow) == 0 then redis.call('SREM', base .. 'lined', workflow) end
end

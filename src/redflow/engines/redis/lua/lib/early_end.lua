-- Resolves a step by what came for it before it was written: the end of its child, or that the child was merged into
-- another (see receive_entries). Returns whether the step is decided.
-- include: resolve_child
local function early_end(base, parent, field, child)
  local key = base .. 'run:' .. parent
  local name = 'w:' .. child .. ':' .. field
  local early = redis.call('HGET', key, name)
  if not early then return false end
  redis.call('HDEL', key, name)
  local to, payload = string.match(early, '^(%l+) (.*)$')
  if payload == '@' then
    payload = redis.call('HGET', base .. 'big:' .. parent, name)
    redis.call('HDEL', base .. 'big:' .. parent, name)
  end
  resolve_child(base, child, to, payload, parent, field)
  return true
end

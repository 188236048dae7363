-- Gives a step the event that came for it before it was written (see receive_entries). Returns whether there was one.
-- include: resolve_wait
local function early_event(base, run, field, place)
  local key, name = base .. 'run:' .. run, 'w:' .. field
  local early = redis.call('HGET', key, name)
  if not early then return false end
  redis.call('HDEL', key, name)
  local seq, ts, length, rest = string.match(early, '^(%d+) (%d+) (%d+) (.*)$')
  local data = string.sub(rest, tonumber(length) + 2)
  if data == '@' then
    data = redis.call('HGET', base .. 'big:' .. run, name)
    redis.call('HDEL', base .. 'big:' .. run, name)
  end
  return resolve_wait(base, run, field, place,
    { id = string.sub(rest, 1, tonumber(length)), seq = seq, ts = ts, data = data })
end

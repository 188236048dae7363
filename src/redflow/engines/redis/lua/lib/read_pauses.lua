-- What is paused: workflows get no room in this call of the script; the queues are returned, as a set of names.
-- include: room_of
local function read_pauses(base)
  local queues = {}
  for _, what in ipairs(redis.call('HKEYS', base .. 'paused')) do
    if string.sub(what, 1, 1) == 'w' then rooms[string.sub(what, 3)] = 0 else queues[string.sub(what, 3)] = true end
  end
  return queues
end

-- The run no longer waits for later inputs: its debounce lets go of it, unless another run has taken its place.
local function end_debounce(base, id, place)
  if redis.call('GET', base .. 'debounce:' .. place) == id then redis.call('DEL', base .. 'debounce:' .. place) end
end

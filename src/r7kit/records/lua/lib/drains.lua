-- Begins a verb that frees memory: its first write is a removal, so that a full server still drains. What could make a
-- later write fail is looked at before.
local function drains(task, stream)
  local kind = redis.call('TYPE', stream).ok
  if kind ~= 'stream' and kind ~= 'none' then
    return redis.error_reply('WRONGTYPE ' .. stream .. ' holds a ' .. kind .. ', not the stream of changes')
  end
  redis.call('HDEL', task, 'starting')
end

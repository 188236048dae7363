-- Steps that wait for a run which is merged into another wait for that one from now on (see resolve_child for their payload).
local function move_awaiters(base, from, to)
  for _, awaiter in ipairs(redis.call('SMEMBERS', base .. 'awaiters:' .. from)) do
    local parent, field = base .. 'run:' .. string.sub(awaiter, 1, 32), string.sub(awaiter, 34)
    local packed = redis.call('HGET', parent, field) or ''
    local header, child, kept = string.match(packed, '^(%d+ Rc %d+ %-?%d+ %- %- )(%x+)( %d+ )%l+ $')
    if child == from then
      redis.call('HSET', parent, field, header .. to .. kept .. 'foreign ')
      redis.call('SADD', base .. 'awaiters:' .. to, awaiter)
    end
  end
  redis.call('DEL', base .. 'awaiters:' .. from)
end

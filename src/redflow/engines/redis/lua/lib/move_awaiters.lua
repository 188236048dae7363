-- Steps that wait for a run which is merged into another wait for that one from now on (see resolve_child for their payload).
-- include: other_shard
-- include: post_entry
-- include: rename_child
local function move_awaiters(base, from, to)
  for _, awaiter in ipairs(redis.call('SMEMBERS', base .. 'awaiters:' .. from)) do
    local parent, field = string.sub(awaiter, 1, 32), string.sub(awaiter, 34)
    if other_shard(base, parent) then
      redis.call('SADD', base .. 'awaiters:' .. to, awaiter)
      post_entry(base, 'moved ' .. from .. ' ' .. parent .. ' ' .. to .. ' ' .. field)
    elseif rename_child(base, parent, field, from, to) then
      redis.call('SADD', base .. 'awaiters:' .. to, awaiter)
    end
  end
  redis.call('DEL', base .. 'awaiters:' .. from)
end

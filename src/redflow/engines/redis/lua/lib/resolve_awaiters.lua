-- Tells every step that waits for this run how it ended; one on another shard by an entry.
-- include: resolve_child
-- include: other_shard
-- include: post_entry
local function resolve_awaiters(base, id, to, payload)
  local key = base .. 'awaiters:' .. id
  local awaiters = redis.call('SMEMBERS', key)
  if #awaiters == 0 then return end
  redis.call('DEL', key)
  for _, awaiter in ipairs(awaiters) do
    local parent, field = string.sub(awaiter, 1, 32), string.sub(awaiter, 34)
    if other_shard(base, parent) then
      post_entry(base, 'wake ' .. id .. ' ' .. awaiter)
    else
      resolve_child(base, id, to, payload, parent, field)
    end
  end
end

-- Tells every step that waits for this run how it ended.
-- include: resolve_child
local function resolve_awaiters(base, id, to, payload)
  local key = base .. 'awaiters:' .. id
  local awaiters = redis.call('SMEMBERS', key)
  if #awaiters == 0 then return end
  redis.call('DEL', key)
  for _, awaiter in ipairs(awaiters) do
    resolve_child(base, id, to, payload, string.sub(awaiter, 1, 32), string.sub(awaiter, 34))
  end
end

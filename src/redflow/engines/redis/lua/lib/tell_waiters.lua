-- Pushes a run's end to the clients that wait for it. Small results travel along, large ones are read.
local function tell_waiters(base, id, status, payload)
  local key = base .. 'waiters:' .. id
  local waiters = redis.call('SMEMBERS', key)
  if #waiters == 0 then return end
  local body = '@'
  if payload and #payload <= 8192 then body = payload end
  for _, client in ipairs(waiters) do
    redis.call('PUBLISH', base .. 'client:' .. client, id .. ' ' .. status .. ' ' .. body)
  end
  redis.call('DEL', key)
end

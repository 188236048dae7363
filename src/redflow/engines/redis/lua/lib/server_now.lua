-- The server's clock in ms; a test may pass a value instead ('' means: ask the server).
local function server_now(given)
  if given ~= '' then return tonumber(given) end
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end

-- What fan-out and lookback need of an event; nil if it is gone.
local function read_event(base, id)
  local r = redis.call('HMGET', base .. 'event:' .. id, 'n', 'd', 't', 'k', 'p', 'fan', 'q', 'ret')
  if not r[1] then return nil end
  return { id = id, name = r[1], data = r[2] or '', ts = tonumber(r[3]), corr = r[4] or nil, parent = r[5] or '',
    status = r[6], seq = tonumber(r[7]), retention = r[8] }
end

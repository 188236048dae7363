-- The only place that writes an event's fan-out status; moves the event between the (status, name) indexes too.
local function set_fanout(base, id, name, ts, from, to)
  if from ~= '' then redis.call('ZREM', base .. 'eidx:' .. from .. ':' .. name, id) end
  redis.call('HSET', base .. 'event:' .. id, 'fan', to)
  redis.call('ZADD', base .. 'eidx:' .. to .. ':' .. name, ts, id)
end

-- Writes down what is to cross to another shard, `<verb> <source> <target> <rest>`, once, and rings a worker that brings it
-- there. A source that is a run counts its entries (og): it is not purged before they are acknowledged.
local function post_entry(base, entry, data)
  if redis.call('ZADD', base .. 'outgoing', 'NX', 0, entry) == 0 then return end
  if data then redis.call('HSET', base .. 'outgoing_data', entry, data) end
  local source = base .. 'run:' .. string.match(entry, '^%l+ (%S+) ')
  if redis.call('EXISTS', source) == 1 then redis.call('HINCRBY', source, 'og', 1) end
  for _ = 1, 3 do
    local worker = redis.call('ZRANDMEMBER', base .. 'carriers')
    if not worker or redis.call('PUBLISH', base .. 'worker:' .. worker, 'out') > 0 then return end
    redis.call('ZREM', base .. 'carriers', worker) -- nobody hears it
  end
end

-- Sends an event to the wait of a run on another shard, and notes what that run has got, for its next wait of this place.
-- include: post_entry
local function give_event(base, run, field, place, event)
  post_entry(base, 'resume - ' .. run .. ' ' .. field, event.id)
  redis.call('HSET', base .. 'got:' .. place, run, event.seq)
  if redis.call('TTL', base .. 'got:' .. place) < 3600 then redis.call('EXPIRE', base .. 'got:' .. place, 86400) end
end

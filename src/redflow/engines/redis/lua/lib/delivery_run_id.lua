-- The id of a subscriber's run is made of event and trigger, so that a delivery never starts two: the event's time, the
-- shard, the event's number (so that ids keep the order of events of one ms) and a digest, in the layout of all ids.
local function delivery_run_id(event, trigger, shard)
  return string.format('%012x7%03x8%04x', event.ts, shard, event.seq % 65536)
    .. string.sub(redis.sha1hex(event.id .. ' ' .. trigger), 1, 11)
end

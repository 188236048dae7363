-- Writes one step record: header (numbers and letters, see the layout) and payload.
-- include: store_payload
local function write_step(base, id, field, header, payload)
  redis.call('HSET', base .. 'run:' .. id, field, header .. store_payload(base, id, field, payload))
end

-- Writes one step record: header (numbers and letters, see the layout) and payload.
-- A "running" that arrives late, sent again after its connection broke, must not undo the step's success.
-- include: store_payload
local function write_step(base, id, field, header, payload)
  local key = base .. 'run:' .. id
  if string.find(header, '^%d+ R') and string.find(redis.call('HGET', key, field) or '', '^%d+ S') then return end
  redis.call('HSET', key, field, header .. store_payload(base, id, field, payload))
end

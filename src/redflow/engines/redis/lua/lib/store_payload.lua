-- Keeps a record small: a payload over 32 KiB goes to the run's second hash under the same field name, and
-- '@' stands in its place. Returns what to store in the record.
local function store_payload(base, id, field, payload)
  if #payload <= 32768 then return payload end
  redis.call('HSET', base .. 'big:' .. id, field, payload)
  return '@'
end

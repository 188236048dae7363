-- The fields of a new run's record but its status: what the order says, else what the workflow's metadata says.
-- include: store_payload
local function new_record(base, now, order, meta, queue, priority)
  local attempts = order.max_attempts ~= '' and order.max_attempts or meta.max_attempts
  local run_timeout = order.run_timeout ~= '' and order.run_timeout or meta.run_timeout
  local fields = { 'w', order.workflow, 'q', queue, 'c', string.format('%d', now), 'm', attempts,
    'i', store_payload(base, order.id, 'i', order.input) }
  local function add(field, value)
    fields[#fields + 1] = field
    fields[#fields + 1] = value
  end
  if order.parent ~= '' then add('p', order.parent) end
  if not meta.queue then add('u', '1') end
  if order.run_at ~= '' and tonumber(order.run_at) > now then add('d', order.run_at) end
  if priority ~= '0' then add('pr', priority) end
  if run_timeout ~= '' then add('to', run_timeout) end
  return fields
end

-- The fields of a new run's record but its status: what the order says, else what the workflow's metadata says.
-- include: int_text
-- include: store_payload
local function new_record(base, now, order, meta, queue, priority)
  local attempts = order.max_attempts ~= '' and order.max_attempts or meta.max_attempts
  local run_timeout = order.run_timeout ~= '' and order.run_timeout or meta.run_timeout
  local fields = { 'w', order.workflow, 'q', queue, 'c', int_text(now), 'm', attempts,
    'i', store_payload(base, order.id, 'i', order.input) }
  local n = 10
  if order.parent ~= '' then fields[n + 1], fields[n + 2], n = 'p', order.parent, n + 2 end
  if not meta.queue then fields[n + 1], fields[n + 2], n = 'u', '1', n + 2 end
  if order.run_at ~= '' and tonumber(order.run_at) > now then
    fields[n + 1], fields[n + 2], n = 'd', order.run_at, n + 2
  end
  if priority ~= '0' then fields[n + 1], fields[n + 2], n = 'pr', priority, n + 2 end
  if run_timeout ~= '' then fields[n + 1], fields[n + 2] = 'to', run_timeout end
  return fields
end

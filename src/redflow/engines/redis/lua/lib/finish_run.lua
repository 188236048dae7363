-- The end of a run, whoever decides it: status, time, result, retention, waiters, and its slot for the next.
-- run = {workflow, status, created}; payload = output or error; that of a canceled run is dropped. run.timeout of false
-- says that it has none (owned_run read it).
-- include: set_status
-- include: add_once
-- include: store_payload
-- include: tell_waiters
-- include: hand_over
-- include: resolve_awaiters
-- include: leave_gates
-- include: pack_record
local function finish_run(base, id, run, to, payload, now, retention)
  local key = base .. 'run:' .. id
  redis.call('HDEL', key, 'd', 'r', 'x', 'z', 'u', to == 'succeeded' and 'e' or 'o', to == 'canceled' and 'e' or 'o')
  local fields = { 'f', now }
  if to == 'succeeded' then fields[3], fields[4] = 'o', store_payload(base, id, 'o', payload) end
  if to == 'failed' then fields[3], fields[4] = 'e', store_payload(base, id, 'e', payload) end
  set_status(base, id, run.workflow, run.created, run.status, to, fields)
  redis.call('ZREM', base .. 'leases', id)
  if run.timeout ~= false then redis.call('ZREM', base .. 'timeouts', id) end
  redis.call('RPUSH', base .. 'expiry:' .. retention, id)
  add_once(base .. 'retentions', retention)
  tell_waiters(base, id, to, to ~= 'canceled' and payload or nil)
  resolve_awaiters(base, id, to, to ~= 'canceled' and payload or nil)
  leave_gates(base, id, run, now)
  pack_record(base, id)
  if run.status == 'running' then hand_over(base, run.workflow) end
end

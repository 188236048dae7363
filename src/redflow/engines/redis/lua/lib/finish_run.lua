-- The end of a run, whoever decides it: status, time, result, retention, waiters, and its slot for the next.
-- run = {workflow, status, created}; payload = output or error; that of a canceled run is dropped. What owned_run read of it
-- besides saves looking: run.timeout of false says that it has none; if run.error is not nil, a running run has no other of
-- the fields that go at the end.
-- include: index_run
-- include: int_text
-- include: set_status
-- include: add_once
-- include: store_payload
-- include: tell_end
-- include: free_slot
-- include: leave_gates
local function finish_run(base, id, run, to, payload, now, retention)
  local key = base .. 'run:' .. id
  if run.error == nil then
    redis.call('HDEL', key, 'd', 'r', 'x', 'z', 'u', to == 'succeeded' and 'e' or 'o', to == 'canceled' and 'e' or 'o')
  elseif run.deaths or run.decided or run.error then
    redis.call('HDEL', key, 'x', 'z', to == 'failed' and 'o' or 'e')
  end
  local fields = { 'f', int_text(now) }
  if to == 'succeeded' then fields[3], fields[4] = 'o', store_payload(base, id, 'o', payload) end
  if to == 'failed' then fields[3], fields[4] = 'e', store_payload(base, id, 'e', payload) end
  if to == 'canceled' then payload = nil end
  set_status(base, id, run.workflow, run.created, run.status, to, fields)
  index_run('ZREM', base .. 'leases', id)
  if run.timeout ~= false then redis.call('ZREM', base .. 'timeouts', id) end
  index_run('RPUSH', base .. 'expiry:' .. retention, id)
  add_once(base .. 'retentions', retention)
  if collected.ended then
    collected.ended[#collected.ended + 1] = { id = id, to = to, payload = payload }
  else
    tell_end(base, id, to, payload)
  end
  leave_gates(base, id, run, now)
  if run.status == 'running' then free_slot(base, run.workflow) end
end

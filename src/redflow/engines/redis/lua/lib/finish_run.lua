-- The end of a run, whoever decides it. run = {workflow, status, created}; payload = output or error, dropped if canceled.
-- What owned_run read saves looking: run.timeout of false: it has none; run.error not nil: it has no field but of running.
-- include: index_run
-- include: int_text
-- include: set_status
-- include: add_once
-- include: store_payload
-- include: tell_end
-- include: free_slot
-- include: leave_gates
-- include: pack_record
local function finish_run(base, id, run, to, payload, now, retention)
  local key = base .. 'run:' .. id
  if run.error == nil then
    redis.call('HDEL', key, 'd', 'r', 'x', 'z', 'u', to == 'succeeded' and 'e' or 'o', to == 'canceled' and 'e' or 'o')
  elseif run.deaths or run.decided or run.error then
    redis.call('HDEL', key, 'x', 'z', to == 'failed' and 'o' or 'e')
  end
  local created, from, at = run.created, run.status, int_text(now)
  if to == 'canceled' then
    payload = false
    set_status(base, id, run.workflow, created, from, to, 'f', at)
  else
    local field = to == 'succeeded' and 'o' or 'e'
    set_status(base, id, run.workflow, created, from, to, 'f', at, field, store_payload(base, id, field, payload))
  end
  local ended, ends = collected.ended, collected.ends
  if ended then
    ended[#ended + 1], ends[#ends + 1], ends[#ends + 2] = id, to, payload
  else
    redis.call('ZREM', base .. 'leases', id)
    redis.call('RPUSH', base .. 'expiry:' .. retention, id)
    tell_end(base, id, to, payload)
  end
  add_once(base .. 'retentions', retention)
  if run.timeout ~= false then redis.call('ZREM', base .. 'timeouts', id) end
  leave_gates(base, id, run, now)
  pack_record(base, id)
  if run.status == 'running' then free_slot(base, run.workflow) end
end

-- Accepts one run: record, idempotency key, place (ready, due, parked). Returns a code, the id and, if found, the key.
-- order = {id, workflow, queue, max_attempts, input, run_at, key, ttl, parent}; '' stands for none, see create_runs.
-- include: run_metadata
-- include: earlier_run
-- include: scope_queue
-- include: store_payload
-- include: set_status
-- include: schedule_run
-- include: enqueue_run
-- include: adopt_run
local function create_run(base, now, client_app, order)
  local id, workflow, record = order.id, order.workflow, base .. 'run:' .. order.id
  if redis.call('EXISTS', record) == 1 then return 'created', id end
  local meta = run_metadata(base, workflow)
  if not meta.queue and order.queue == '' then return 'unknown_workflow', id end
  local idem, found = earlier_run(base, workflow, order.key)
  if found then return 'found', found, idem end
  local queue = order.queue ~= '' and string.sub(order.queue, 2) or meta.queue
  if meta.queue then queue = scope_queue(queue, meta.app or client_app) end
  local due = order.run_at ~= '' and tonumber(order.run_at) or now
  local attempts = order.max_attempts ~= '' and order.max_attempts or meta.max_attempts or 3
  local fields = { 'w', workflow, 'q', queue, 'c', string.format('%d', now), 'm', attempts,
    'i', store_payload(base, id, 'i', order.input) }
  if order.parent ~= '' then fields[#fields + 1] = 'p'; fields[#fields + 1] = order.parent end
  if not meta.queue then fields[#fields + 1] = 'u'; fields[#fields + 1] = '1' end
  if due > now then fields[#fields + 1] = 'd'; fields[#fields + 1] = order.run_at end
  redis.call('HSET', record, unpack(fields))
  set_status(base, id, workflow, now, '', due > now and 'scheduled' or 'queued')
  redis.call('SADD', base .. 'workflows', workflow)
  if idem then redis.call('SET', idem, id, 'EX', order.ttl) end
  if order.parent ~= '' then adopt_run(base, id, order.parent) end
  if due > now then
    schedule_run(base, id, due)
  elseif meta.queue then
    enqueue_run(base, id, queue, false)
  else
    redis.call('ZADD', base .. 'parked:' .. workflow, redis.call('INCR', base .. 'seq'), id)
  end
  return 'created', id
end

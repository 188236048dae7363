-- Accepts one run: record, idempotency key, place (ready, due, parked). Returns a code, the id and, if found, the key.
-- order = the arguments of create_runs by name; '' stands for none. is_new: somebody looked already, there is no such run.
-- include: int_text
-- include: run_metadata
-- include: new_record
-- include: earlier_run
-- include: scope_queue
-- include: set_status
-- include: add_once
-- include: schedule_run
-- include: enqueue_run
-- include: next_seq
-- include: adopt_run
-- include: note_queue
local function create_run(base, now, client_app, order, is_new)
  local id, workflow, record = order.id, order.workflow, base .. 'run:' .. order.id
  if not is_new and redis.call('EXISTS', record) == 1 then return 'created', id end
  local meta = run_metadata(base, workflow)
  if not meta.queue and order.queue == '' then return 'unknown_workflow', id end
  local idem, found = earlier_run(base, workflow, order.key)
  if found then return 'found', found, idem end
  local queue = order.queue ~= '' and string.sub(order.queue, 2) or meta.queue
  if meta.queue then queue = scope_queue(queue, meta.app or client_app) end
  if order.queue ~= '' and meta.queue and order.queue ~= '=' .. meta.queue then note_queue(base, queue, now) end
  local due = order.run_at ~= '' and tonumber(order.run_at) or now
  local priority = order.priority ~= '' and order.priority or meta.priority
  local fields = new_record(base, now, order, meta, queue, priority)
  set_status(base, id, workflow, int_text(now), '', due > now and 'scheduled' or 'queued', unpack(fields))
  add_once(base .. 'workflows', workflow)
  if idem then redis.call('SET', idem, id, 'EX', order.ttl) end
  if order.parent ~= '' then adopt_run(base, id, order.parent) end
  if due > now then
    schedule_run(base, id, due)
  elseif meta.queue then
    enqueue_run(base, id, queue, false, priority)
  else
    redis.call('ZADD', base .. 'parked:' .. workflow, next_seq(base), id)
  end
  return 'created', id
end

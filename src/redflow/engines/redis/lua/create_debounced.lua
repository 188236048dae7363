-- verb: create_debounced
-- purpose: accept a run that waits for its debounce, or give its input to the one that waits already
-- keys: 1 base
-- args: now, client_app, id, workflow, queue, max_attempts, input, run_at, key, ttl, priority, run_timeout, parent, debounce_key, period, timeout
-- replies: {code, id}: created | debounced (into an earlier run) | found (an earlier run has the idempotency key) | unknown_workflow
-- For id .. parent see create_runs; period and timeout in ms, timeout '' for none. Sent again it answers the same: what an
-- earlier run took over is noted for a minute, since that run may have started meanwhile, or have got a newer input.
-- A run that takes a later input keeps its own priority and run_timeout.
-- include: server_now
-- include: run_metadata
-- include: earlier_run
-- include: scope_queue
-- include: debounce_place
-- include: debounced_run
-- include: rearm_run
-- include: create_run
local base, now = KEYS[1], server_now(ARGV[1])
local order = {
  id = ARGV[3], workflow = ARGV[4], queue = ARGV[5], max_attempts = ARGV[6], input = ARGV[7], run_at = ARGV[8],
  key = ARGV[9], ttl = ARGV[10], priority = ARGV[11], run_timeout = ARGV[12], parent = ARGV[13],
}
local key, period, timeout = ARGV[14], tonumber(ARGV[15]), tonumber(ARGV[16])

local function create(place, due)
  order.run_at = string.format('%d', due)
  local code, id = create_run(base, now, ARGV[2], order)
  if code == 'created' then
    redis.call('HSET', base .. 'run:' .. id, 'dk', place)
    if timeout then redis.call('HSET', base .. 'run:' .. id, 'dd', string.format('%d', now + timeout)) end
    redis.call('SET', base .. 'debounce:' .. place, id)
  end
  return { code, id }
end

if redis.call('EXISTS', base .. 'run:' .. order.id) == 1 then return { 'created', order.id } end
local taken_over = redis.call('GET', base .. 'handed:' .. order.id)
if taken_over then return { 'debounced', taken_over } end
local meta = run_metadata(base, order.workflow)
if not meta.queue and order.queue == '' then return { 'unknown_workflow', order.id } end
local idem, found = earlier_run(base, order.workflow, order.key)
if found then
  redis.call('EXPIRE', idem, order.ttl)
  return { 'found', found }
end
local given = order.queue ~= '' and string.sub(order.queue, 2) or meta.queue
local queue = meta.queue and scope_queue(given, meta.app or ARGV[2]) or given
local place = debounce_place(order.workflow, queue, key)
-- A run that was parked until its workflow was registered is known under the queue's plain name.
local kept = debounced_run(base, place) or debounced_run(base, debounce_place(order.workflow, given, key))
local due = math.max(tonumber(order.run_at) or 0, now + period)
if not kept then return create(place, due) end
rearm_run(base, kept, { input = order.input, given = now, by = order.id }, due, now)
redis.call('SET', base .. 'handed:' .. order.id, kept.id, 'EX', 60)
if idem then redis.call('SET', idem, kept.id, 'EX', order.ttl) end
return { 'debounced', kept.id }

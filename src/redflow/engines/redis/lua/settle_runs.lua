-- verb: settle_runs
-- purpose: the only exit of an attempt: succeeded | failed | canceled | retry | suspended
-- keys: 1 base
-- args: now, worker, retention, idle, queue_count
-- item: id, fence, token, outcome, payload, due, trace_field, trace, step_count, wait_count
-- replies: {more, index, reason ...} with reason stale | gone | canceled | timeout (these won) | broken: <error> (of this run
--   alone, which may be half settled); settled before by this claim is plain success
-- After the queue_count queues of the worker come the items; each is followed by step_count times (field, header, payload), written
-- with it, and by the wait_count fields of the steps it sleeps for: one that is decided already makes the run ready at once.
-- due of retry and suspended is a time, ms ('' for a sleep without end). idle = '1': mark the worker idle if none of its queues has a ready run.
-- include: server_now
-- include: open_batch
-- include: owned_run
-- include: index_run
-- include: set_status
-- include: store_payload
-- include: write_step
-- include: finish_run
-- include: schedule_run
-- include: free_slot
-- include: mark_idle
-- include: wake_run
-- include: leave_gates
-- include: decide_timeout
-- include: end_decided
-- include: decided_error
-- include: close_batch
-- include: broken_reason
local base = KEYS[1]
local now, worker, retention = server_now(ARGV[1]), ARGV[2], ARGV[3]
local queue_count = tonumber(ARGV[5])

local function put_to_sleep(id, run, due, fields)
  index_run('ZREM', base .. 'leases', id)
  if due then
    fields[#fields + 1] = 'd'
    fields[#fields + 1] = string.format('%d', due)
  end
  if run.deaths then redis.call('HDEL', base .. 'run:' .. id, 'x') end
  set_status(base, id, run.workflow, run.created, 'running', 'scheduled', unpack(fields))
  if due then schedule_run(base, id, due) end
  leave_gates(base, id, run, now)
  free_slot(base, run.workflow)
end

local function wake_if_decided(id, first, last)
  for i = first, last do
    local packed = redis.call('HGET', base .. 'run:' .. id, ARGV[i])
    if string.find(packed or '', '^%d+ R[ce] %d+ %-?%d+ %- [^-] ') then return wake_run(base, id) end
  end
end

local function settle(id, run, outcome, payload, due, trace_field, trace)
  if run.cancel then outcome = 'canceled' end
  local ends_otherwise = outcome ~= 'failed' and outcome ~= 'canceled'
  if ends_otherwise and run.timeout and not run.decided and now >= tonumber(run.timeout) then
    decide_timeout(base, id, run.workflow)
    run.decided = redis.call('HGET', base .. 'run:' .. id, 'z')
  end
  if run.decided and outcome ~= 'failed' then
    end_decided(base, id, run, now, retention)
    return 'timeout'
  end
  if run.decided then payload = decided_error(base, id, run.decided) end
  if outcome == 'retry' then
    local stored = string.format('%d ', now) .. store_payload(base, id, trace_field, trace)
    local fields = { 'e', store_payload(base, id, 'e', payload), trace_field, stored }
    put_to_sleep(id, run, tonumber(due), fields)
  elseif outcome == 'suspended' then
    put_to_sleep(id, run, tonumber(due), { 'r', '1' })
  else
    finish_run(base, id, run, outcome, payload, now, retention)
  end
  return outcome
end

local function any_ready()
  for i = 6, 5 + queue_count do
    if redis.call('EXISTS', base .. 'ready:' .. ARGV[i], base .. 'suspects:' .. ARGV[i]) > 0 then return true end
  end
  return false
end

-- The item at ARGV[i], whose steps and waits begin at these places; returns the reason to tell, if there is one.
local function settle_item(i, steps_at, waits_at, next_at)
  local id, outcome = ARGV[i], ARGV[i + 3]
  local run, reason = owned_run(base, id, ARGV[i + 1], ARGV[i + 2])
  if not run then return reason ~= 'settled' and reason end
  for s = steps_at, waits_at - 1, 3 do write_step(base, id, ARGV[s], ARGV[s + 1], ARGV[s + 2]) end
  local done = settle(id, run, outcome, ARGV[i + 4], ARGV[i + 5], ARGV[i + 6], ARGV[i + 7])
  if done == 'suspended' then wake_if_decided(id, waits_at, next_at - 1) end
  return done ~= outcome and done
end

local reply = { 0 }
redis.call('ZREM', base .. 'leases', '') -- a removal first, so that a full Redis still drains
local i, index = 6 + queue_count, 0
while i <= #ARGV do
  local waits_at = i + 10 + 3 * tonumber(ARGV[i + 8])
  local next_at = waits_at + tonumber(ARGV[i + 9])
  if next_at <= #ARGV then open_batch() end
  local done, reason = pcall(settle_item, i, i + 10, waits_at, next_at)
  if not done then reason = broken_reason(reason) end
  if reason then
    reply[#reply + 1] = index
    reply[#reply + 1] = reason
  end
  i, index = next_at, index + 1
end
close_batch(base, retention)
if any_ready() then
  reply[1] = 1
elseif ARGV[4] == '1' then
  for q = 6, 5 + queue_count do mark_idle(base, ARGV[q], worker) end
end
return reply

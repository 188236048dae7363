-- verb: settle_runs
-- purpose: the only exit of an attempt: succeeded | failed | canceled | retry | suspended
-- keys: 1 base
-- args: now, worker, retention, idle, queue_count
-- item: id, fence, token, outcome, payload, due, trace_field, trace, step_count
-- replies: {more, index, reason ...} with reason stale | gone | canceled (a cancel request won); settled before by this claim is plain success
-- After the queue_count queues of the worker come the items; each is followed by step_count times (field, header, payload), written with it.
-- due of retry and suspended is a time, ms. idle = '1': mark the worker idle if none of its queues has a ready run.
-- include: server_now
-- include: owned_run
-- include: set_status
-- include: store_payload
-- include: write_step
-- include: finish_run
-- include: schedule_run
-- include: hand_over
-- include: mark_idle
local base = KEYS[1]
local now, worker, retention = server_now(ARGV[1]), ARGV[2], ARGV[3]
local queue_count = tonumber(ARGV[5])

local function put_to_sleep(id, run, due, fields, resumes)
  local key = base .. 'run:' .. id
  redis.call('ZREM', base .. 'leases', id)
  fields[#fields + 1] = 'd'
  fields[#fields + 1] = string.format('%d', due)
  if resumes then fields[#fields + 1] = 'r'; fields[#fields + 1] = '1' end
  redis.call('HSET', key, unpack(fields))
  redis.call('HDEL', key, 'x')
  set_status(base, id, run.workflow, run.created, 'running', 'scheduled')
  schedule_run(base, id, due)
  hand_over(base, run.workflow)
end

local function settle(id, run, outcome, payload, due, trace_field, trace)
  if run.cancel then outcome = 'canceled' end
  if outcome == 'retry' then
    local stored = string.format('%d ', now) .. store_payload(base, id, trace_field, trace)
    local fields = { 'e', store_payload(base, id, 'e', payload), trace_field, stored }
    put_to_sleep(id, run, tonumber(due), fields, false)
  elseif outcome == 'suspended' then
    put_to_sleep(id, run, tonumber(due), {}, true)
  else
    finish_run(base, id, run, outcome, payload, now, retention)
  end
  return outcome
end

local function any_ready()
  for i = 6, 5 + queue_count do
    if redis.call('EXISTS', base .. 'ready:' .. ARGV[i]) == 1 then return true end
  end
  return false
end

local reply = { 0 }
redis.call('ZREM', base .. 'leases', '')
local i, index = 6 + queue_count, 0
while i <= #ARGV do
  local id, outcome, step_count = ARGV[i], ARGV[i + 3], tonumber(ARGV[i + 8])
  local run, reason = owned_run(base, id, ARGV[i + 1], ARGV[i + 2])
  if run then
    for s = i + 9, i + 8 + 3 * step_count, 3 do write_step(base, id, ARGV[s], ARGV[s + 1], ARGV[s + 2]) end
    local done = settle(id, run, outcome, ARGV[i + 4], ARGV[i + 5], ARGV[i + 6], ARGV[i + 7])
    if done ~= outcome then reason = done end
  end
  if reason and reason ~= 'settled' then
    reply[#reply + 1] = index
    reply[#reply + 1] = reason
  end
  i, index = i + 9 + 3 * step_count, index + 1
end
if any_ready() then
  reply[1] = 1
elseif ARGV[4] == '1' then
  for q = 6, 5 + queue_count do mark_idle(base, ARGV[q], worker) end
end
return reply

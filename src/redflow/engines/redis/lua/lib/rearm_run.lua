-- Gives a run that never started a newer input and another time, not after its deadline. What was computed from the old
-- input is void: it leaves the lines of mutex and throttle, but one that is ready, or in line for a slot, keeps its place.
-- newer = {input, given, by}: the input, when it was handed in, and the id of the run it came with.
-- Starts with a write that needs memory, so that a full Redis refuses it whole.
-- include: store_payload
-- include: leave_gates
-- include: leave_places
-- include: set_status
-- include: schedule_run
-- include: enqueue_run
-- include: ready_run
local function rearm_run(base, kept, newer, due, now)
  local id, key = kept.id, base .. 'run:' .. kept.id
  local handed_in = string.format('%d %s', newer.given, newer.by)
  redis.call('HSET', key, 'i', store_payload(base, id, 'i', newer.input), 'di', handed_in)
  if #newer.input <= 32768 then redis.call('HDEL', base .. 'big:' .. id, 'i') end
  if kept.deadline and due > kept.deadline then due = kept.deadline end
  local r = redis.call('HMGET', key, 'w', 's', 'c', 'q', 'u', 'mk', 'tl', 'pr')
  local run = { workflow = r[1], status = r[2], created = r[3], queue = r[4], unregistered = r[5], priority = r[8] }
  leave_gates(base, id, { mutex = r[6], line = r[7] }, now)
  if due <= now and run.status == 'queued' and not r[6] then return end
  leave_places(base, id, run.workflow, run.queue)
  if due > now then
    if run.status == 'queued' then set_status(base, id, run.workflow, run.created, 'queued', 'scheduled') end
    redis.call('HSET', key, 'd', string.format('%d', due))
    schedule_run(base, id, due)
  elseif run.status == 'scheduled' then
    ready_run(base, id, run)
  else
    enqueue_run(base, id, run.queue, false, run.priority)
  end
end

-- verb: time_out_runs
-- purpose: fail the runs whose time-out has passed: end those that nobody executes, have the others interrupted
-- keys: 1 base
-- args: now, limit, retention
-- replies: {now, next_due, timed_out}
-- Of a running run the failure is decided here, whatever its holder tells from now on; it ends when the holder lets go of
-- it. A run that is being canceled, or whose failure is decided already, is left alone.
-- include: server_now
-- include: decide_timeout
-- include: leave_places
-- include: leave_gates
-- include: end_decided
-- include: next_due
local base, now, timed_out = KEYS[1], server_now(ARGV[1]), 0

local function time_out(id)
  redis.call('ZREM', base .. 'timeouts', id)
  local r = redis.call('HMGET', base .. 'run:' .. id, 's', 'w', 'c', 'q', 'k', 'z', 'cr')
  local run = { status = r[1], workflow = r[2], created = r[3], queue = r[4] }
  if run.status ~= 'running' and run.status ~= 'queued' and run.status ~= 'scheduled' then return end
  if r[6] or r[7] then return end
  decide_timeout(base, id, run.workflow)
  timed_out = timed_out + 1
  if run.status == 'running' and r[5] then
    redis.call('PUBLISH', base .. 'worker:' .. string.match(r[5], '^(%w+)'), 'timeout ' .. id)
    return
  end
  leave_places(base, id, run.workflow, run.queue)
  if run.status ~= 'running' then leave_gates(base, id, run, now) end
  end_decided(base, id, run, now, ARGV[3])
end

local over = redis.call('ZRANGEBYSCORE', base .. 'timeouts', '-inf', now, 'LIMIT', 0, ARGV[2])
for _, id in ipairs(over) do time_out(id) end
return { now, next_due(base), timed_out }

-- verb: record_steps
-- purpose: make step results durable, for all runs of a worker that are at it
-- keys: 1 base
-- args: none
-- item: id, fence, token, field, header, payload
-- replies: only what is not plain: index, reason ... with reason stale | gone | settled | broken: <error> (not
--   written), cancel | timeout (written; the run is to end)
-- Writing the same again is harmless. Starts with a removal, so that a full Redis still drains.
-- Only a step that succeeded is progress: one that failed runs anew each time, and would hide a poisoned run for ever.
-- include: owned_run
-- include: write_step
-- include: broken_reason
local base = KEYS[1]
local reply = {}

local function record_step(i)
  local id, header = ARGV[i], ARGV[i + 4]
  local run, reason = owned_run(base, id, ARGV[i + 1], ARGV[i + 2], true)
  if not run then return reason end
  write_step(base, id, ARGV[i + 3], header, ARGV[i + 5])
  if run.deaths and string.find(header, '^%d+ S') then redis.call('HDEL', base .. 'run:' .. id, 'x') end
  return run.cancel and 'cancel' or run.decided and run.timeout and 'timeout'
end

redis.call('ZREM', base .. 'leases', '')
for i = 1, #ARGV, 6 do
  local done, reason = pcall(record_step, i)
  if not done then reason = broken_reason(reason) end
  if reason then
    reply[#reply + 1] = (i - 1) / 6
    reply[#reply + 1] = reason
  end
end
return reply

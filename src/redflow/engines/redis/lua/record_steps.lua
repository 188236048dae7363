-- verb: record_steps
-- purpose: make step results durable, for all runs of a worker that are at it
-- keys: 1 base
-- args: none
-- item: id, fence, token, field, header, payload
-- replies: only what is not plain: index, reason ... with reason stale | gone | settled (not written), cancel | timeout (written; the run is to end)
-- Writing the same again is harmless. Starts with a removal, so that a full Redis still drains.
-- Only a step that succeeded is progress: one that failed runs anew each time, and would hide a poisoned run for ever.
-- include: owned_run
-- include: write_step
local base = KEYS[1]
local reply = {}
redis.call('ZREM', base .. 'leases', '')
for i = 1, #ARGV, 6 do
  local id = ARGV[i]
  local run, reason = owned_run(base, id, ARGV[i + 1], ARGV[i + 2], true)
  if run then
    write_step(base, id, ARGV[i + 3], ARGV[i + 4], ARGV[i + 5])
    if run.deaths and string.find(ARGV[i + 4], '^%d+ S') then redis.call('HDEL', base .. 'run:' .. id, 'x') end
    reason = run.cancel and 'cancel' or run.decided and run.timeout and 'timeout'
  end
  if reason then
    reply[#reply + 1] = (i - 1) / 6
    reply[#reply + 1] = reason
  end
end
return reply

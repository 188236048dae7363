-- verb: release_runs
-- purpose: hand interrupted runs back at once, to the front of their queues; same attempt, steps kept
-- keys: 1 base
-- args: now, retention
-- item: id, fence, token
-- replies: how many were handed back or, when a cancel was asked for or the failure is decided, ended
-- include: server_now
-- include: owned_run
-- include: enqueue_run
-- include: finish_run
-- include: end_decided
local base = KEYS[1]
local now, count = server_now(ARGV[1]), 0
for i = 3, #ARGV, 3 do
  local id = ARGV[i]
  local run = owned_run(base, id, ARGV[i + 1], ARGV[i + 2])
  if run then
    count = count + 1
    if run.cancel then
      finish_run(base, id, run, 'canceled', nil, now, ARGV[2])
    elseif run.decided then
      end_decided(base, id, run, now, ARGV[2])
    else
      redis.call('ZREM', base .. 'leases', id)
      redis.call('HDEL', base .. 'run:' .. id, 'k')
      enqueue_run(base, id, run.queue, true)
    end
  end
end
return count

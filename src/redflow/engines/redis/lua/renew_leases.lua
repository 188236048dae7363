-- verb: renew_leases
-- purpose: a worker's heartbeat: keep it alive and prolong the leases of all runs it holds
-- keys: 1 base
-- args: now, worker, lease_ms, alive_ms
-- item: id, fence, token
-- replies: {now, epoch, index, reason ...} with reason lost | cancel | timeout; or 'unregistered'
-- epoch only ever grows; one lower than seen before means that Redis went back in time.
-- include: server_now
-- include: owned_run
local base = KEYS[1]
local now, worker, lease_ms, alive_ms = server_now(ARGV[1]), ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
redis.call('ZREMRANGEBYSCORE', base .. 'workers', '-inf', now - 60000)
if redis.call('PEXPIRE', base .. 'worker:' .. worker, alive_ms) == 0 then return 'unregistered' end
redis.call('PEXPIRE', base .. 'knows:' .. worker, alive_ms)
redis.call('ZADD', base .. 'workers', now + alive_ms, worker)
local reply = { now, redis.call('INCR', base .. 'epoch') }
for i = 5, #ARGV, 3 do
  local id = ARGV[i]
  local run = owned_run(base, id, ARGV[i + 1], ARGV[i + 2])
  local reason = 'lost'
  if run and redis.call('ZSCORE', base .. 'leases', id) then
    redis.call('ZADD', base .. 'leases', now + lease_ms, id)
    reason = run.cancel and 'cancel' or run.decided and run.timeout and 'timeout'
  end
  if reason then
    reply[#reply + 1] = (i - 5) / 3
    reply[#reply + 1] = reason
  end
end
return reply

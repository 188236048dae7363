-- verb: decide_failure
-- purpose: record that a run fails, before its on_failure is called, so that a worker that dies in between loses neither
-- keys: 1 base
-- args: id, fence, token, error
-- replies: ok | canceled | timeout (a cancel request, the time-out came first) | stale | gone | settled
-- include: owned_run
-- include: store_payload
-- include: decided_error
local base, id = KEYS[1], ARGV[1]
redis.call('ZREM', base .. 'leases', '')
local run, reason = owned_run(base, id, ARGV[2], ARGV[3])
if not run then return reason end
if run.cancel then return 'canceled' end
if run.decided then return decided_error(base, id, run.decided) == ARGV[4] and 'ok' or 'timeout' end
redis.call('HSET', base .. 'run:' .. id, 'z', store_payload(base, id, 'z', ARGV[4]))
return 'ok'

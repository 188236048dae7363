-- verb: confirm_step
-- purpose: see that a step is in its run's record, for a holder that waits until it is durable
-- keys: 1 base
-- args: id, fence, token, field
-- replies: ok | missing | stale | gone | settled
-- include: owned_run
local base, id, field = KEYS[1], ARGV[1], ARGV[4]
local run, reason = owned_run(base, id, ARGV[2], ARGV[3])
if not run then return reason end
return redis.call('HEXISTS', base .. 'run:' .. id, field) == 1 and 'ok' or 'missing'

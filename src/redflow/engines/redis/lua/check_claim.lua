-- verb: check_claim
-- purpose: what a step needs to know of its run before it reaches for another shard; writes nothing
-- keys: 1 base
-- args: id, fence, token, place
-- replies: {code, depth, received}: ok | cancel | timeout | stale | gone | settled; depth below the run that no step started;
--   received: number of the last event that a wait of this place got, '' for none
-- include: owned_run
local base, id = KEYS[1], ARGV[1]
local run, reason = owned_run(base, id, ARGV[2], ARGV[3])
if run then reason = run.cancel and 'cancel' or run.decided and 'timeout' or 'ok' end
local r = redis.call('HMGET', base .. 'run:' .. id, 'dp', 'v:' .. ARGV[4])
return { reason, tonumber(r[1] or '0'), r[2] or '' }

-- verb: cancel_run
-- purpose: end a run that nobody executes; ask the holder of a running one to stop; mark its children to follow
-- keys: 1 base
-- args: now, id, reason, retention, operation
-- replies: {answer, cascade}: canceled | requested | decided (its on_failure is being called) | finished | unknown; 1 if children are to follow
-- operation: id of this call, '' for none; the one that changed something answers the same when it is sent again.
-- include: server_now
-- include: cancel_one
local base, operation = KEYS[1], ARGV[5]
local key = base .. 'run:' .. ARGV[2]
local answer = cancel_one(base, ARGV[2], ARGV[3], server_now(ARGV[1]), ARGV[4])
if operation ~= '' then
  if answer == 'canceled' or answer == 'requested' then redis.call('HSETNX', key, 'co', operation) end
  if answer == 'finished' and redis.call('HGET', key, 'co') == operation then answer = 'canceled' end
end
return { answer, redis.call('HEXISTS', base .. 'cascade', ARGV[2]) }

-- verb: cancel_run
-- purpose: end a run that nobody executes; ask the holder of a running one to stop; mark its children to follow
-- keys: 1 base
-- args: now, id, reason, retention
-- replies: {answer, cascade}: canceled | requested | decided (its on_failure is being called) | finished | unknown; 1 if children are to follow
-- include: server_now
-- include: cancel_one
local base = KEYS[1]
local answer = cancel_one(base, ARGV[2], ARGV[3], server_now(ARGV[1]), ARGV[4])
return { answer, redis.call('HEXISTS', base .. 'cascade', ARGV[2]) }

-- verb: cancel_runs
-- purpose: cancel several runs, see cancel_run
-- keys: 1 base
-- args: now, reason, retention, operation
-- item: id
-- replies: {cascade, answer ...}: 1 if children are to follow; for each canceled | requested | decided | finished | unknown
-- operation: id of this call; what it changed it answers the same when it is sent again.
-- include: server_now
-- include: cancel_one
local base, operation, now = KEYS[1], ARGV[4], server_now(ARGV[1])
local reply = { 0 }
for i = 5, #ARGV do
  local key = base .. 'run:' .. ARGV[i]
  local answer = cancel_one(base, ARGV[i], ARGV[2], now, ARGV[3])
  if answer == 'canceled' or answer == 'requested' then redis.call('HSETNX', key, 'co', operation) end
  if answer == 'finished' and redis.call('HGET', key, 'co') == operation then answer = 'canceled' end
  reply[#reply + 1] = answer
end
reply[1] = redis.call('EXISTS', base .. 'cascade')
return reply

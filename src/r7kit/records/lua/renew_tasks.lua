-- verb: renew_tasks
-- purpose: prolong the lives of tasks whose flows run; the keys are of each task its record and its operations
-- keys: 1 keys...
-- args: ttl_ms
-- replies: how many were prolonged; one that is deleted, or whose flow is yet to be started, is not
local renewed = 0
for i = 1, #KEYS, 2 do
  local known = redis.call('HMGET', KEYS[i], 'uuid', 'deleted_at', 'starting')
  if known[1] and not known[2] and not known[3] then
    redis.call('PEXPIRE', KEYS[i], ARGV[1])
    redis.call('PEXPIRE', KEYS[i + 1], ARGV[1])
    renewed = renewed + 1
  end
end
return renewed

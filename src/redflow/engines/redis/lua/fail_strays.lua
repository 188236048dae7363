-- verb: fail_strays
-- purpose: fail the runs of one line that no worker knows, once its workflow was unknown everywhere for patience_ms
-- keys: 1 base
-- args: now, queue, workflow, patience_ms, limit, error, retention
-- replies: how many runs failed (0 as long as the workflow is registered or a live worker knows it)
-- Each call that finds the workflow known lets its patience begin anew. A failure that was decided keeps its error.
-- include: server_now
-- include: finish_run
-- include: forget_line
-- include: line_key
-- include: decided_error
local base, queue, workflow = KEYS[1], ARGV[2], ARGV[3]
local now, failed = server_now(ARGV[1]), 0
local name, line = #queue .. ':' .. queue .. ':' .. workflow, line_key(KEYS[1], 'stray', queue, workflow)

local function is_known()
  if redis.call('EXISTS', base .. 'meta:' .. workflow) == 1 then return true end
  for _, worker in ipairs(redis.call('ZRANGEBYSCORE', base .. 'workers', now, '+inf', 'LIMIT', 0, 200)) do
    if redis.call('SISMEMBER', base .. 'knows:' .. worker, workflow) == 1 then return true end
  end
  return false
end

redis.call('ZREM', base .. 'leases', '') -- starts with a removal, so that a full Redis still drains
if is_known() then
  redis.call('ZADD', base .. 'strays', 'XX', now, name)
  return 0
end
local since = redis.call('ZSCORE', base .. 'strays', name)
if not since or now - tonumber(since) < tonumber(ARGV[4]) then return 0 end
local popped = redis.call('ZPOPMIN', line, ARGV[5])
for i = 1, #popped, 2 do
  local id = popped[i]
  local r = redis.call('HMGET', base .. 'run:' .. id, 's', 'c', 'z')
  if r[1] == 'queued' or r[1] == 'running' then
    redis.call('HSETNX', base .. 'run:' .. id, 'a', 1)
    redis.call('HSETNX', base .. 'run:' .. id, 't', now)
    local run = { workflow = workflow, status = r[1], created = r[2] }
    finish_run(base, id, run, 'failed', r[3] and decided_error(base, id, r[3]) or ARGV[6], now, ARGV[7])
    failed = failed + 1
  end
end
forget_line(base, 'stray', queue, workflow)
return failed

-- verb: cancel_run
-- purpose: end a run that nobody executes; ask the holder of a running one to stop
-- keys: 1 base
-- args: now, id, reason, retention
-- replies: canceled | requested | decided (it failed already, its on_failure is being called) | finished | unknown
-- include: server_now
-- include: finish_run
-- include: line_key
-- include: forget_line
local base, id = KEYS[1], ARGV[2]
local now, key = server_now(ARGV[1]), KEYS[1] .. 'run:' .. ARGV[2]
local r = redis.call('HMGET', key, 's', 'w', 'c', 'q', 'k', 'z', 'cr')
local status, workflow, queue = r[1], r[2], r[4]
if not status then return 'unknown' end
if status == 'succeeded' or status == 'failed' or status == 'canceled' then return 'finished' end
if r[6] then return 'decided' end
redis.call('ZREM', base .. 'due', id)
if not r[7] then
  redis.call('HSET', key, 'cr', now)
  if ARGV[3] ~= '' then redis.call('HSET', key, 'cw', ARGV[3]) end
end
if status == 'running' and r[5] then
  local holder = string.match(r[5], '^(%w+)')
  redis.call('PUBLISH', base .. 'worker:' .. holder, 'cancel ' .. id)
  return 'requested'
end
redis.call('ZREM', base .. 'ready:' .. queue, id)
redis.call('ZREM', base .. 'parked:' .. workflow, id)
for _, kind in ipairs({ 'line', 'stray' }) do
  local line = line_key(base, kind, queue, workflow)
  if redis.call('ZREM', line, id) == 1 then forget_line(base, kind, queue, workflow) end
end
finish_run(base, id, { workflow = workflow, status = status, created = r[3] }, 'canceled', nil, now, ARGV[4])
return 'canceled'

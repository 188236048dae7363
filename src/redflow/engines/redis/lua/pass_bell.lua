-- verb: pass_bell
-- purpose: a worker that was rung but has no free slot rings the next idle one
-- keys: 1 base
-- args: worker
-- item: queue
-- replies: ok
-- include: ring_bell
local base = KEYS[1]
for i = 2, #ARGV do
  local queue = ARGV[i]
  redis.call('SREM', base .. 'idle:' .. queue, ARGV[1])
  if redis.call('EXISTS', base .. 'ready:' .. queue) == 1 then ring_bell(base, queue) end
end
return 'ok'

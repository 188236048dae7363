-- verb: recover_runs
-- purpose: take runs from holders that let their lease run out; the third death in a row without a new step is poison
-- keys: 1 base
-- args: now, limit, poison_error, retention, not_after
-- replies: {now, next_lease, recovered, poisoned}
-- A poisoned run goes back once more with its failure decided, so that its on_failure runs, elsewhere; when that
-- kills its holders too, the run ends here. Also hands out slots that nobody was told of (the net under hand_over).
-- A call that lay in a stalled server past not_after recovers nothing: holders could not renew meanwhile.
-- include: server_now
-- include: enqueue_run
-- include: finish_run
-- include: hand_over
-- include: decided_error
-- include: first_score
-- include: pass_grants
local base = KEYS[1]
local now = server_now(ARGV[1])
local recovered, poisoned = 0, 0
if ARGV[5] ~= '' and now > tonumber(ARGV[5]) then return { now, first_score(base .. 'leases'), 0, 0 } end

local function recover(id)
  redis.call('ZREM', base .. 'leases', id)
  local key = base .. 'run:' .. id
  local r = redis.call('HMGET', key, 's', 'w', 'c', 'x', 'q', 'cr', 'z')
  if r[1] ~= 'running' then return end
  local run = { workflow = r[2], status = 'running', created = r[3] }
  local deaths = tonumber(r[4] or '0') + 1
  redis.call('HDEL', key, 'k')
  if r[6] then return finish_run(base, id, run, 'canceled', nil, now, ARGV[4]) end
  if deaths >= 3 and r[7] then
    poisoned = poisoned + 1
    return finish_run(base, id, run, 'failed', decided_error(base, id, r[7]), now, ARGV[4])
  end
  if deaths >= 3 then
    poisoned = poisoned + 1
    redis.call('HSET', key, 'z', ARGV[3])
    redis.call('HDEL', key, 'x')
  else
    redis.call('HSET', key, 'x', deaths)
  end
  recovered = recovered + 1
  enqueue_run(base, id, r[5], true)
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', base .. 'leases', '-inf', now, 'LIMIT', 0, ARGV[2])) do recover(id) end
local moved = 0
for _, workflow in ipairs(redis.call('SRANDMEMBER', base .. 'lined', 20)) do
  if moved < 100 then moved = moved + hand_over(base, workflow) end
end
pass_grants(base, now)
return { now, first_score(base .. 'leases'), recovered, poisoned }

-- Takes back the claim of a run that has to wait for admission: its slot goes to the next, and no attempt is used.
-- first: nothing of it was ever executed, so that it counts as never started; one that was retried (rb) keeps its number of
-- attempts, since traces tell of them.
-- include: set_status
-- include: hand_over
local function unclaim_run(base, id, run, to, first)
  local key = base .. 'run:' .. id
  local r = redis.call('HMGET', key, 'a', 'ad', 'rb')
  redis.call('ZREM', base .. 'leases', id)
  redis.call('HDEL', key, 'x')
  if first then
    redis.call('HDEL', key, 'ta')
    if run.timeout then redis.call('ZREM', base .. 'timeouts', id) end
  end
  if first and not r[3] then
    redis.call('HDEL', key, 'a', 't')
  elseif r[1] ~= r[2] and tonumber(r[1]) > 1 then
    redis.call('HSET', key, 'a', tonumber(r[1]) - 1)
  else
    redis.call('HSET', key, 'r', 1)
  end
  set_status(base, id, run.workflow, run.created, 'running', to)
  hand_over(base, run.workflow)
end

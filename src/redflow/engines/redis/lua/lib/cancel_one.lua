-- Cancels one run whatever it does: ends it if nobody executes it, else asks its holder. See cancel_run for the answers.
-- include: finish_run
-- include: leave_places
-- include: cascade_from
local function cancel_one(base, id, reason, now, retention)
  local key = base .. 'run:' .. id
  local r = redis.call('HMGET', key, 's', 'w', 'c', 'q', 'k', 'z', 'cr')
  local status, workflow, queue = r[1], r[2], r[4]
  if not status then return 'unknown' end
  if status == 'succeeded' or status == 'failed' or status == 'canceled' then return 'finished' end
  if r[6] then return 'decided' end
  redis.call('ZREM', base .. 'due', id)
  if not r[7] then
    redis.call('HSET', key, 'cr', string.format('%d', now))
    if reason ~= '' then redis.call('HSET', key, 'cw', reason) end
    cascade_from(base, id, reason)
  end
  if status == 'running' and r[5] then
    redis.call('PUBLISH', base .. 'worker:' .. string.match(r[5], '^(%w+)'), 'cancel ' .. id)
    return 'requested'
  end
  leave_places(base, id, workflow, queue)
  finish_run(base, id, { workflow = workflow, status = status, created = r[3] }, 'canceled', nil, now, retention)
  return 'canceled'
end

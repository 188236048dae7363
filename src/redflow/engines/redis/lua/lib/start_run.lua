-- Puts a ready run under a lease; returns what its attempt needs: {id, fence, attempt, flat record} or, of a run that starts for the
-- first time and has nothing more, {id, fence, attempt, w, c, q, m, i, t}. run = its fields as read_ready_run gives them.
-- include: index_run
-- include: int_text
-- include: set_status
-- include: start_clock
local function start_run(base, id, run, token, now, lease_ms)
  local key, attempt, fence, at = base .. 'run:' .. id, run[5], run[6] + 1, int_text(now)
  local fresh = attempt == 0
  if run[2] ~= 'queued' then
    redis.call('HSET', key, 'n', int_text(fence), 'k', token)
  elseif run[8] then
    redis.call('HDEL', key, 'r')
    set_status(base, id, run[1], run[3], 'queued', 'running', 'n', int_text(fence), 'k', token)
  else
    attempt = attempt + 1
    if fresh then start_clock(base, id, now, run[12]) end
    set_status(base, id, run[1], run[3], 'queued', 'running',
      'n', int_text(fence), 'k', token, 'a', int_text(attempt), fresh and 't' or 'b', at)
  end
  index_run('ZADD', base .. 'leases', id, int_text(now + lease_ms))
  if not fresh then return { id, fence, attempt, redis.call('HGETALL', key) } end
  return { id, fence, attempt, run[1], run[3], run[4], run[9], run[10], at }
end

-- Puts a ready run under a lease; returns what its attempt needs: {id, fence, attempt, flat record}.
-- run = its fields as read_ready_run gives them.
-- include: index_run
-- include: int_text
-- include: set_status
-- include: start_clock
local function start_run(base, id, run, token, now, lease_ms)
  local key, attempt, fence, at = base .. 'run:' .. id, run[5], run[6] + 1, int_text(now)
  local fresh, fields = attempt == 0, { 'n', int_text(fence), 'k', token }
  if run[2] == 'queued' then
    if not run[8] then
      attempt = attempt + 1
      fields[5], fields[6], fields[7], fields[8] = 'a', int_text(attempt), run[9] and 'b' or 't', at
      if not run[9] then start_clock(base, id, now, run[13]) end
    else
      redis.call('HDEL', key, 'r')
    end
    set_status(base, id, run[1], run[3], 'queued', 'running', fields)
  else
    redis.call('HSET', key, unpack(fields))
  end
  index_run('ZADD', base .. 'leases', id, int_text(now + lease_ms))
  if not fresh then return { id, fence, attempt, redis.call('HGETALL', key) } end
  return { id, fence, attempt, { 'w', run[1], 'c', run[3], 'q', run[4], 'm', run[10], 'i', run[11], 't', at } }
end

-- Puts a ready run under a lease; returns what its attempt needs: {id, fence, attempt, flat record}.
-- run = its fields as read_ready_run gives them.
-- include: set_status
-- include: start_clock
local function start_run(base, id, run, token, now, lease_ms)
  local key = base .. 'run:' .. id
  local attempt, fence = tonumber(run[5] or '0'), tonumber(run[6] or '0') + 1
  local fresh, fields = attempt == 0, { 'n', fence, 'k', token }
  if run[2] == 'queued' then
    if not run[9] then
      attempt = attempt + 1
      fields[5], fields[6], fields[7], fields[8] = 'a', attempt, run[10] and 'b' or 't', string.format('%d', now)
      if not run[10] then start_clock(base, id, now, run[14]) end
    else
      redis.call('HDEL', key, 'r')
    end
    set_status(base, id, run[1], run[3], 'queued', 'running', fields)
  else
    redis.call('HSET', key, unpack(fields))
  end
  redis.call('ZADD', base .. 'leases', now + lease_ms, id)
  if not fresh then return { id, fence, attempt, redis.call('HGETALL', key) } end
  return { id, fence, attempt, { 'w', run[1], 'c', run[3], 'q', run[4], 'm', run[11], 'i', run[12], 't',
    string.format('%d', now) } }
end

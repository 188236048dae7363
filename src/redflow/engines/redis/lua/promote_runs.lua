-- verb: promote_runs
-- purpose: move scheduled runs whose time has come to the back of their queues
-- keys: 1 base
-- args: now, limit
-- replies: {now, next_due, promoted}
-- include: server_now
-- include: set_status
-- include: enqueue_run
-- include: scope_queue
-- include: first_score
local base = KEYS[1]
local now = server_now(ARGV[1])
local promoted = 0

local function promote(id)
  redis.call('ZREM', base .. 'due', id)
  local key = base .. 'run:' .. id
  local r = redis.call('HMGET', key, 's', 'w', 'c', 'q', 'u')
  if r[1] ~= 'scheduled' then return end
  promoted = promoted + 1
  set_status(base, id, r[2], r[3], 'scheduled', 'queued')
  redis.call('HDEL', key, 'd')
  if r[5] then
    local app = redis.call('HGET', base .. 'meta:' .. r[2], 'app')
    if not app then
      redis.call('ZADD', base .. 'parked:' .. r[2], redis.call('INCR', base .. 'seq'), id)
      return
    end
    r[4] = scope_queue(r[4], app)
    redis.call('HDEL', key, 'u')
    redis.call('HSET', key, 'q', r[4])
  end
  enqueue_run(base, id, r[4], false)
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', base .. 'due', '-inf', now, 'LIMIT', 0, ARGV[2])) do promote(id) end
return { now, first_score(base .. 'due'), promoted }

-- Sets the time a run becomes ready. When it is the earliest of all, the promoters are told, so that they
-- can sleep until the next due time instead of polling.
local function schedule_run(base, id, due)
  local key = base .. 'due'
  local head = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
  redis.call('ZADD', key, due, id)
  if not head[2] or due < tonumber(head[2]) then
    redis.call('PUBLISH', base .. 'timers', string.format('%d', due))
  end
end

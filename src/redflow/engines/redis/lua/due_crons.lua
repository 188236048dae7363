-- verb: due_crons
-- purpose: the cron triggers whose time has come, for fire_cron
-- keys: 1 base
-- args: now, limit
-- replies: {now, next, {trigger, due, expression, timezone} ...}; next: the earliest time of all, '' if there is none
-- include: server_now
-- include: first_score
local base, now = KEYS[1], server_now(ARGV[1])
local reply = { now, first_score(base .. 'crons') }
for _, trigger in ipairs(redis.call('ZRANGEBYSCORE', base .. 'crons', '-inf', now, 'LIMIT', 0, ARGV[2])) do
  local r = redis.call('HMGET', base .. 'cron:' .. trigger, 'n', 'e', 'z')
  if r[1] then
    reply[#reply + 1] = { trigger, r[1], r[2], r[3] }
  else
    redis.call('ZREM', base .. 'crons', trigger)
  end
end
return reply

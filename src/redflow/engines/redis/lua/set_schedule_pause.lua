-- verb: set_schedule_pause
-- purpose: let a cron trigger fire no more, or fire again from its next time on
-- keys: 1 base
-- args: now, trigger, reason, paused, expression, timezone, next
-- replies: changed | same | unknown | other (it has another expression or time zone by now: look again)
-- paused = '1', or '' to let it fire again; then next is the first of its times from now on, ms ('' for never), computed from
-- expression and timezone. A paused trigger keeps its pause when its workflow is registered again.
-- include: server_now
-- include: plan_cron
local base, trigger, key = KEYS[1], ARGV[2], KEYS[1] .. 'cron:' .. ARGV[2]
local now = server_now(ARGV[1])
local r = redis.call('HMGET', key, 'e', 'z', 'n', 'pa')
if not r[1] then return 'unknown' end
if ARGV[4] == '1' then
  if r[4] then return 'same' end
  redis.call('HSET', key, 'pa', string.format('%d ', now) .. ARGV[3])
  redis.call('ZREM', base .. 'crons', trigger)
  return 'changed'
end
if not r[4] then return 'same' end
if r[1] ~= ARGV[5] or r[2] ~= ARGV[6] then return 'other' end
redis.call('HDEL', key, 'pa')
plan_cron(base, trigger, ARGV[7])
if redis.call('ZRANGE', base .. 'crons', 0, 0)[1] == trigger then
  redis.call('PUBLISH', base .. 'timers', 'cron ' .. ARGV[7])
end
return 'changed'

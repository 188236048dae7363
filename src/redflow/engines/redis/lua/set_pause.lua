-- verb: set_pause
-- purpose: pause a queue or a workflow, or let it go on
-- keys: 1 base
-- args: now, what, reason, paused
-- replies: 1 if that changed anything, else 0
-- what = 'q:' .. queue or 'w:' .. workflow; paused = '1', or '' to let it go on. claim_runs takes nothing of what is paused;
-- who goes on is told by bells, and by the workers' slow check.
-- include: server_now
-- include: hand_over
-- include: ring_bell
local base, what, now = KEYS[1], ARGV[2], server_now(ARGV[1])
local name = string.sub(what, 3)
if ARGV[4] == '1' then return redis.call('HSETNX', base .. 'paused', what, string.format('%d ', now) .. ARGV[3]) end
local changed = redis.call('HDEL', base .. 'paused', what)
if changed == 1 and string.sub(what, 1, 1) == 'w' then hand_over(base, name) end
if changed == 1 and string.sub(what, 1, 1) == 'q' then
  for _ = 1, math.min(redis.call('ZCARD', base .. 'ready:' .. name), 100) do ring_bell(base, name) end
end
return changed

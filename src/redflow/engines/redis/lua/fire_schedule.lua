-- verb: fire_schedule
-- purpose: start a run as a tick of a cron trigger would, whatever that waits for
-- keys: 1 base
-- args: now, trigger, id
-- replies: created | unknown (no such trigger) | unknown_workflow
-- Sent again with the same id it changes nothing and answers the same.
-- include: server_now
-- include: create_run
local base, r = KEYS[1], redis.call('HMGET', KEYS[1] .. 'cron:' .. ARGV[2], 'w', 'i')
if not r[1] then return 'unknown' end
local order = { id = ARGV[3], workflow = r[1], queue = '', max_attempts = '', input = r[2], run_at = '', key = '',
  ttl = '', priority = '', run_timeout = '', parent = '' }
return (create_run(base, server_now(ARGV[1]), '', order))

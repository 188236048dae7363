-- verb: fire_schedule
-- purpose: start a run as a tick of a cron trigger would, whatever that waits for
-- keys: 1 base
-- args: now, trigger, id, input
-- replies: created | unknown (no such trigger) | unknown_workflow
-- Sent again with the same id it changes nothing and answers the same.
-- input: that of the trigger, which the caller has read: an encrypted one has to be encrypted anew, since only the id of
-- a tick's run tells which trigger it came from.
-- include: server_now
-- include: create_run
local base, workflow = KEYS[1], redis.call('HGET', KEYS[1] .. 'cron:' .. ARGV[2], 'w')
if not workflow then return 'unknown' end
local order = { id = ARGV[3], workflow = workflow, queue = '', max_attempts = '', input = ARGV[4], run_at = '',
  key = '', ttl = '', priority = '', run_timeout = '', parent = '' }
return (create_run(base, server_now(ARGV[1]), '', order))

-- verb: start_rerun
-- purpose: start a run that is another one run again, and note which
-- keys: 1 base
-- args: now, client_app, source, id, workflow, queue, max_attempts, input, run_at, key, ttl, priority, run_timeout, parent
-- replies: {code, id}: created | unknown_workflow
-- From id on the arguments are those of create_runs. Sent again with the same id it changes nothing and answers the same.
-- include: server_now
-- include: create_run
local base = KEYS[1]
local order = { id = ARGV[4], workflow = ARGV[5], queue = ARGV[6], max_attempts = ARGV[7], input = ARGV[8],
  run_at = ARGV[9], key = ARGV[10], ttl = ARGV[11], priority = ARGV[12], run_timeout = ARGV[13], parent = ARGV[14] }
local code, id = create_run(base, server_now(ARGV[1]), ARGV[2], order)
if code == 'created' then redis.call('HSETNX', base .. 'run:' .. id, 'rf', ARGV[3]) end
return { code, id }

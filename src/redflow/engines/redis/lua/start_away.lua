-- verb: start_away
-- purpose: create a run for a step whose run is on another shard, and have that told of its end
-- keys: 1 base
-- args: now, client_app, awaiter, depth, id, workflow, queue, max_attempts, input, run_at, key, ttl, priority, run_timeout, parent
-- replies: {code, id}: created | found | unknown_workflow
-- awaiter: `<parent> <field>`, '' if nobody waits for its end. For id .. parent see create_runs. The step is written by
-- attach_child afterwards. Sent again it finds the run it made.
-- include: server_now
-- include: create_run
-- include: post_entry
local base, awaiter = KEYS[1], ARGV[3]
local code, id, found_by = create_run(base, server_now(ARGV[1]), ARGV[2], {
  id = ARGV[5], workflow = ARGV[6], queue = ARGV[7], max_attempts = ARGV[8], input = ARGV[9], run_at = ARGV[10],
  key = ARGV[11], ttl = ARGV[12], priority = ARGV[13], run_timeout = ARGV[14], parent = ARGV[15],
})
if code == 'unknown_workflow' then return { code, id } end
if code == 'created' then redis.call('HSET', base .. 'run:' .. id, 'dp', ARGV[4]) end
if found_by then redis.call('EXPIRE', found_by, ARGV[12]) end
if awaiter ~= '' then
  local status = redis.call('HGET', base .. 'run:' .. id, 's')
  if status == 'succeeded' or status == 'failed' or status == 'canceled' then
    post_entry(base, 'wake ' .. id .. ' ' .. awaiter)
  else
    redis.call('SADD', base .. 'awaiters:' .. id, awaiter)
  end
end
return { code, id }

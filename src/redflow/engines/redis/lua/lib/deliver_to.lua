-- Starts the run of one subscriber, or has it started where its workflow lives. A delivery field d:<trigger id> is a JSON
-- array: status, workflow, queue, run id or error.
-- include: create_run
-- include: public_id
-- include: delivery_run_id
-- include: workflow_shard
-- include: post_entry
local function deliver_to(base, id, event, trigger, delivery, now)
  local shard, other = workflow_shard(base, delivery[2])
  if other then return post_entry(base, 'start - ' .. trigger .. ' ' .. id) end
  local code, run = create_run(base, now, '', {
    id = delivery_run_id(event, trigger, shard), workflow = delivery[2], queue = '', max_attempts = '',
    input = event.data, run_at = '', key = '', ttl = '', priority = '', run_timeout = '', parent = event.parent,
  })
  if code == 'unknown_workflow' then
    delivery[1], delivery[4] = 'failed', { name = 'UnknownWorkflowError', kind = 'unknown_workflow',
      message = 'Unknown workflow: ' .. delivery[2] }
  else
    delivery[1], delivery[4] = 'delivered', public_id(run)
  end
  redis.call('HSET', base .. 'event:' .. id, 'd:' .. trigger, cjson.encode(delivery))
end

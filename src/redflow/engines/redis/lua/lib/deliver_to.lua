-- Starts the run of one subscriber. A delivery field d:<trigger id> is a JSON array: status, workflow, queue, run id or error.
-- The run's id is made of event and trigger, so that a delivery never starts two: the event's time, its number (so that
-- ids keep the order of events of one ms) and a digest, in the layout of all ids.
-- include: create_run
-- include: public_id
local function deliver_to(base, id, event, trigger, delivery, now)
  local run_id = string.format('%012x70008%04x', event.ts, event.seq % 65536)
    .. string.sub(redis.sha1hex(id .. ' ' .. trigger), 1, 11)
  local code, run = create_run(base, now, '', {
    id = run_id, workflow = delivery[2], queue = '', max_attempts = '', input = event.data, run_at = '',
    key = '', ttl = '', priority = '', run_timeout = '', parent = event.parent,
  })
  if code == 'unknown_workflow' then
    delivery[1], delivery[4] = 'failed', { name = 'UnknownWorkflowError', kind = 'unknown_workflow',
      message = 'Unknown workflow: ' .. delivery[2] }
  else
    delivery[1], delivery[4] = 'delivered', public_id(run)
  end
  redis.call('HSET', base .. 'event:' .. id, 'd:' .. trigger, cjson.encode(delivery))
end

-- verb: start_children
-- purpose: create runs for steps of running parents; an awaited one leaves the parent's step open until it ends
-- keys: 1 base
-- args: now, client_app, max_depth
-- item: parent, fence, token, field, header, generation, awaited, id, workflow, queue, max_attempts, input, run_at, key, ttl, priority, run_timeout
-- replies: per item a pair (code, id): created | found | unknown_workflow | too_deep | stale | gone | settled | cancel
--   | timeout (from the third on nothing was started)
-- header is the packed step header: open for an awaited child, ended for one that is only started (its output is the child's id).
-- Sent again it finds the child it made: ids are derived from parent, step and generation.
-- include: server_now
-- include: owned_run
-- include: create_run
-- include: public_id
-- include: resolve_child
-- include: packed_value
local base = KEYS[1]
local now, max_depth = server_now(ARGV[1]), tonumber(ARGV[3])

local function await_child(parent, field, header, generation, id, own)
  redis.call('HSET', base .. 'run:' .. parent, field,
    header .. '- ' .. id .. ' ' .. generation .. (own and ' own ' or ' foreign '))
  local r = redis.call('HMGET', base .. 'run:' .. id, 's', 'o', 'e')
  if r[1] ~= 'succeeded' and r[1] ~= 'failed' and r[1] ~= 'canceled' then
    redis.call('SADD', base .. 'awaiters:' .. id, parent .. ' ' .. field)
    return
  end
  local name = r[1] == 'succeeded' and 'o' or 'e'
  local payload = r[1] == 'succeeded' and r[2] or r[3] or packed_value(base, id, name)
  if payload == '@' then payload = redis.call('HGET', base .. 'big:' .. id, name) end
  resolve_child(base, id, r[1], payload or '', parent, field)
end

local function start(i)
  local parent, field, header, generation = ARGV[i], ARGV[i + 3], ARGV[i + 4], ARGV[i + 5]
  local run, reason = owned_run(base, parent, ARGV[i + 1], ARGV[i + 2])
  if run then reason = run.cancel and 'cancel' or run.decided and 'timeout' end
  if reason then return reason, '' end
  local depth = tonumber(redis.call('HGET', base .. 'run:' .. parent, 'dp') or '0') + 1
  if depth > max_depth then return 'too_deep', '' end
  local code, id, found_by = create_run(base, now, ARGV[2], {
    id = ARGV[i + 7], workflow = ARGV[i + 8], queue = ARGV[i + 9], max_attempts = ARGV[i + 10], input = ARGV[i + 11],
    run_at = ARGV[i + 12], key = ARGV[i + 13], ttl = ARGV[i + 14], priority = ARGV[i + 15],
    run_timeout = ARGV[i + 16], parent = public_id(parent),
  })
  if code == 'unknown_workflow' then return code, id end
  if code == 'created' then redis.call('HSET', base .. 'run:' .. id, 'dp', depth) end
  if found_by then redis.call('EXPIRE', found_by, ARGV[i + 14]) end
  if ARGV[i + 6] == '1' then
    await_child(parent, field, header, generation, id, code == 'created')
  else
    redis.call('HSET', base .. 'run:' .. parent, field, header .. '"' .. public_id(id) .. '"')
  end
  if run.deaths then redis.call('HDEL', base .. 'run:' .. parent, 'x') end
  return code, id
end

local reply = {}
for i = 4, #ARGV, 17 do
  local code, id = start(i)
  reply[#reply + 1] = code
  reply[#reply + 1] = id
end
return reply

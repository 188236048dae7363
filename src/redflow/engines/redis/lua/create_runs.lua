-- verb: create_runs
-- purpose: accept runs: write the record, take the idempotency key, put each into its queue, its due time or the parking line
-- keys: 1 base
-- args: now, client_app
-- item: id, workflow, queue, max_attempts, input, run_at, key, ttl, priority, run_timeout, parent
-- replies: per item a pair (code, id): created | found (an earlier run has the key) | unknown_workflow
-- A queue given by the caller comes as '=' .. name and an idempotency key as '=' .. key; '' stands for none.
-- priority and run_timeout (ms) of '' are those of the workflow's metadata, else 0 and none.
-- Sent again with the same id it changes nothing and answers the same, so a lost reply does no harm.
-- Starts with a write that needs memory, so that a full Redis refuses the whole batch; TTLs are renewed last.
-- include: server_now
-- include: all_new
-- include: open_batch
-- include: create_run
-- include: write_indexes
local base = KEYS[1]
local now = server_now(ARGV[1])
local order, reply, refreshed, failure = {}, {}, {}, nil
local are_new = #ARGV > 13 and all_new(base, ARGV, 3, 11)
if #ARGV > 13 then open_batch() end
for i = 3, #ARGV, 11 do
  order.id, order.workflow, order.queue, order.max_attempts = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  order.input, order.run_at, order.key, order.ttl = ARGV[i + 4], ARGV[i + 5], ARGV[i + 6], ARGV[i + 7]
  order.priority, order.run_timeout, order.parent = ARGV[i + 8], ARGV[i + 9], ARGV[i + 10]
  local done, code, id, found_by = pcall(create_run, base, now, ARGV[2], order, are_new)
  if not done then
    failure = code
    break
  end
  if found_by then refreshed[#refreshed + 1] = { found_by, ARGV[i + 7] } end
  reply[#reply + 1] = code
  reply[#reply + 1] = id
end
local refused = write_indexes()
failure = failure or refused
if failure then error(failure, 0) end
for _, key in ipairs(refreshed) do redis.call('EXPIRE', key[1], key[2]) end
return reply

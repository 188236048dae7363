-- verb: register_workflow
-- purpose: write a workflow's metadata and let the runs in that were parked until it is known
-- keys: 1 base
-- args: now, name, app, queue, max_concurrency, max_attempts, version, meta, priority, run_timeout, on_failure
-- replies: ok | more (call again: parked runs are left) | older (a worker that started later has written it) | other_app, app
-- Starts with a removal, so that workers can start on a full Redis, and drain it.
-- version = the start of the worker that registers, ms (server time); '' is never older. max_concurrency,
-- priority and run_timeout (ms) of '' are none; on_failure = '1': it has one.
-- include: server_now
-- include: enqueue_run
-- include: hand_over
-- include: scope_queue
-- include: note_queue
local base, name, app = KEYS[1], ARGV[2], ARGV[3]
local now, key, parked = server_now(ARGV[1]), KEYS[1] .. 'meta:' .. ARGV[2], KEYS[1] .. 'parked:' .. ARGV[2]
local old = redis.call('HMGET', key, 'app', 'version', 'max_concurrency', 'meta', 'queue')

local function other_app_is_alive()
  if not old[1] or old[1] == app then return false end
  for _, worker in ipairs(redis.call('ZRANGEBYSCORE', base .. 'workers', now, '+inf', 'LIMIT', 0, 200)) do
    if redis.call('HGET', base .. 'worker:' .. worker, 'app') == old[1]
      and redis.call('SISMEMBER', base .. 'knows:' .. worker, name) == 1 then return true end
  end
  return false
end

if other_app_is_alive() then return { 'other_app', old[1] } end
if ARGV[7] ~= '' and old[2] and tonumber(old[2]) > tonumber(ARGV[7]) then return { 'older' } end
if old[5] and old[5] ~= ARGV[4] then note_queue(base, scope_queue(old[5], old[1]), now) end
local waiting = redis.call('ZPOPMIN', parked, 200)
redis.call('SADD', base .. 'metas', name)
redis.call('HSET', key, 'app', app, 'queue', ARGV[4], 'max_attempts', ARGV[6], 'meta', ARGV[8], 'updated', now)
if ARGV[7] ~= '' then redis.call('HSET', key, 'version', ARGV[7]) end
for field, given in pairs({ max_concurrency = ARGV[5], priority = ARGV[9], run_timeout = ARGV[10],
  on_failure = ARGV[11] }) do
  if given ~= '' then redis.call('HSET', key, field, given) else redis.call('HDEL', key, field) end
end
for i = 1, #waiting, 2 do
  local run = base .. 'run:' .. waiting[i]
  local queue, priority = unpack(redis.call('HMGET', run, 'q', 'pr'))
  if queue then
    queue = scope_queue(queue, app)
    if queue ~= scope_queue(ARGV[4], app) then note_queue(base, queue, now) end
    redis.call('HSET', run, 'q', queue)
    redis.call('HDEL', run, 'u')
    enqueue_run(base, waiting[i], queue, false, priority)
  end
end
hand_over(base, name)
return { redis.call('EXISTS', parked) == 1 and 'more' or 'ok' }

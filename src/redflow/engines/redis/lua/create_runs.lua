-- verb: create_runs
-- purpose: accept runs: write the record, take the idempotency key, put each into its queue, its due time or the parking line
-- keys: 1 base
-- args: now, client_app
-- item: id, workflow, queue, max_attempts, input, run_at, idempotency_key, idempotency_ttl, parent
-- replies: per item a pair (code, id): created | found (an earlier run has the key) | unknown_workflow
-- A queue given by the caller comes as '=' .. name and a key as '=' .. key; '' stands for none.
-- Sent again with the same id it changes nothing and answers the same, so a lost reply does no harm.
-- Starts with a write that needs memory, so that a full Redis refuses the whole batch; refreshed TTLs come last.
-- include: server_now
-- include: set_status
-- include: enqueue_run
-- include: schedule_run
-- include: scope_queue
-- include: store_payload
local base = KEYS[1]
local now = server_now(ARGV[1])
local client_app = ARGV[2]
local known, refreshed = {}, {}

local function metadata(workflow)
  if not known[workflow] then
    local m = redis.call('HMGET', base .. 'meta:' .. workflow, 'app', 'queue', 'max_attempts')
    known[workflow] = { app = m[1] or nil, queue = m[2] or nil, max_attempts = m[3] or nil }
  end
  return known[workflow]
end

local function earlier_run(workflow, key, ttl)
  local idem = base .. 'idem:' .. #workflow .. ':' .. workflow .. ':' .. key
  local id = redis.call('GET', idem)
  if not id then return nil end
  local status = redis.call('HGET', base .. 'run:' .. id, 's')
  if not status or status == 'failed' or status == 'canceled' then return nil end
  refreshed[#refreshed + 1] = { idem, ttl }
  return id
end

local function create(id, workflow, queue, max_attempts, input, run_at, key, ttl, parent)
  local record = base .. 'run:' .. id
  if redis.call('EXISTS', record) == 1 then return 'created', id end
  local meta = metadata(workflow)
  if not meta.queue and queue == '' then return 'unknown_workflow', id end
  if key ~= '' then
    local found = earlier_run(workflow, string.sub(key, 2), ttl)
    if found then return 'found', found end
  end
  local wanted = queue ~= '' and string.sub(queue, 2) or meta.queue
  local parked = not meta.queue
  local scoped = parked and wanted or scope_queue(wanted, meta.app or client_app)
  if max_attempts == '' then max_attempts = meta.max_attempts or 3 end
  local fields = { 'w', workflow, 'q', scoped, 'c', string.format('%d', now), 'm', max_attempts,
    'i', store_payload(base, id, 'i', input) }
  if parent ~= '' then fields[#fields + 1] = 'p'; fields[#fields + 1] = parent end
  if parked then fields[#fields + 1] = 'u'; fields[#fields + 1] = '1' end
  local due = run_at ~= '' and tonumber(run_at) or now
  if due > now then fields[#fields + 1] = 'd'; fields[#fields + 1] = run_at end
  redis.call('HSET', record, unpack(fields))
  set_status(base, id, workflow, now, '', due > now and 'scheduled' or 'queued')
  redis.call('SADD', base .. 'workflows', workflow)
  if key ~= '' then
    local idem = base .. 'idem:' .. #workflow .. ':' .. workflow .. ':' .. string.sub(key, 2)
    redis.call('SET', idem, id, 'EX', ttl)
  end
  if due > now then
    schedule_run(base, id, due)
  elseif parked then
    redis.call('ZADD', base .. 'parked:' .. workflow, redis.call('INCR', base .. 'seq'), id)
  else
    enqueue_run(base, id, scoped, false)
  end
  return 'created', id
end

local reply = {}
for i = 3, #ARGV, 9 do
  local code, id = create(ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], ARGV[i + 5], ARGV[i + 6],
    ARGV[i + 7], ARGV[i + 8])
  reply[#reply + 1] = code
  reply[#reply + 1] = id
end
for _, key in ipairs(refreshed) do redis.call('EXPIRE', key[1], key[2]) end
return reply

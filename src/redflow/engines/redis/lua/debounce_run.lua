-- verb: debounce_run
-- purpose: debounce a claimed run that was created without its key: it waits, or is merged into the run that waits already
-- keys: 1 base
-- args: now, id, fence, token, retention, key, period, timeout
-- replies: go_on (its debounce is over) | waits | merged | canceled (a cancel request came first) | stale | gone | settled (nothing was done)
-- period and timeout in ms, timeout '' for none. The newer of two inputs stays; a merged run ends canceled, and those who
-- wait for it wait for the other from now on.
-- include: server_now
-- include: owned_run
-- include: debounce_place
-- include: debounced_run
-- include: unclaim_run
-- include: schedule_run
-- include: enqueue_run
-- include: rearm_run
-- include: move_awaiters
-- include: public_id
-- include: finish_run
local base, now, id = KEYS[1], server_now(ARGV[1]), ARGV[2]
local key, period, timeout = KEYS[1] .. 'run:' .. ARGV[2], tonumber(ARGV[7]), tonumber(ARGV[8])

local function hold_back(run, place)
  local deadline = timeout and tonumber(run.created) + timeout
  local due = now + period
  if deadline and due > deadline then due = deadline end
  unclaim_run(base, id, run, due > now and 'scheduled' or 'queued', true)
  redis.call('HSET', key, 'dk', place)
  if deadline then redis.call('HSET', key, 'dd', string.format('%d', deadline)) end
  redis.call('SET', base .. 'debounce:' .. place, id)
  if due > now then
    redis.call('HSET', key, 'd', string.format('%d', due))
    schedule_run(base, id, due)
  else
    enqueue_run(base, id, run.queue, false, redis.call('HGET', key, 'pr')) -- behind the rest of its burst
  end
  return 'waits'
end

local function merge(run, kept)
  local input = redis.call('HGET', key, 'i')
  if input == '@' then input = redis.call('HGET', base .. 'big:' .. id, 'i') end
  local given = tonumber(run.created)
  -- By creation, not by arrival: a run that a dead worker held comes late. Within one ms the ids tell the order.
  if given > kept.given or given == kept.given and id > kept.by then
    rearm_run(base, kept, { input = input, given = given, by = id }, now + period, now)
  end
  redis.call('HDEL', key, 'a', 't', 'ta') -- it never started
  redis.call('HSET', key, 'mi', public_id(kept.id))
  move_awaiters(base, id, kept.id)
  finish_run(base, id, run, 'canceled', nil, now, ARGV[5])
  return 'merged'
end

redis.call('ZREM', base .. 'leases', '') -- starts with a removal, so that a full Redis still drains
local run, reason = owned_run(base, id, ARGV[3], ARGV[4])
if not run then return reason end
if run.cancel then return 'canceled' end
local r = redis.call('HMGET', key, 'dk', 'ad')
if r[1] or r[2] then return 'go_on' end
local place = debounce_place(run.workflow, run.queue, ARGV[6])
local kept = debounced_run(base, place)
if kept then return merge(run, kept) end
return hold_back(run, place)

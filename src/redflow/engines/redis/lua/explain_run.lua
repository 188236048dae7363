-- verb: explain_run
-- purpose: all that tells why a run is where it is, read in one instant; writes nothing
-- keys: 1 base
-- args: now, id
-- item: field (of the record to be read)
-- replies: {now, values, steps, place, workers, known, holders, limit, moves_at, paused}, or nothing: no such run
-- steps: triples (field, start of the packed step, status of its child or '') of open steps; place: the sorted set it stands
-- in, its rank there and the size; workers: triples (id, info, whether it knows the workflow) of live ones that claim; known: workflows
-- they know, if none knows this one; holders: pairs (run, workflow) of those in its way; limit: max_concurrency; moves_at: when
-- the line of its throttle moves on;
-- paused: the pauses of its queue and of its workflow, '' for none.
-- include: server_now
-- include: line_key
local base, id, now = KEYS[1], ARGV[2], server_now(ARGV[1])
local key = base .. 'run:' .. id
local r = redis.call('HMGET', key, 's', 'w', 'q', 'mk', 'tl')
if not r[1] then return nil end
local workflow, queue, mutex, throttle = r[2], r[3], r[4], r[5]

local function open_steps()
  local all, found = redis.call('HGETALL', key), {}
  for i = 1, #all, 2 do
    if #found < 60 and string.find(all[i], '^s:') and string.find(all[i + 1], '^%d+ R') then
      local child = string.match(all[i + 1], '^%d+ Rc %d+ %-?%d+ %- [-SFC] (%x+) ')
      found[#found + 1] = all[i]
      found[#found + 1] = string.sub(all[i + 1], 1, 1024)
      found[#found + 1] = child and redis.call('HGET', base .. 'run:' .. child, 's') or ''
    end
  end
  return found
end

local function place()
  local sets = {
    ready = base .. 'ready:' .. queue, parked = base .. 'parked:' .. workflow, due = base .. 'due',
    line = line_key(base, 'line', queue, workflow), stray = line_key(base, 'stray', queue, workflow),
    suspects = base .. 'suspects:' .. queue,
  }
  if mutex then sets.mutexline = base .. 'mutexline:' .. mutex end
  if throttle then sets.throttleline = base .. 'throttleline:' .. throttle end
  for name, set in pairs(sets) do
    local rank = redis.call('ZRANK', set, id)
    if rank then return { name, rank, redis.call('ZCARD', set) } end
  end
  return { '', 0, 0 }
end

local function live_workers()
  local found, known, any = {}, {}, false
  local live = redis.call('ZRANGEBYSCORE', base .. 'workers', now, '+inf', 'LIMIT', 0, 100)
  for _, worker in ipairs(live) do
    local info, drain = unpack(redis.call('HMGET', base .. 'worker:' .. worker, 'info', 'drain'))
    local knows = redis.call('SISMEMBER', base .. 'knows:' .. worker, workflow)
    any = any or knows == 1
    if info and not drain then
      found[#found + 1] = worker
      found[#found + 1] = info
      found[#found + 1] = knows
    end
  end
  for i = 1, any and 0 or math.min(#live, 10) do
    known[i] = redis.call('SRANDMEMBER', base .. 'knows:' .. live[i], 20)
  end
  return found, known
end

local function holders(stands_in)
  local runs, found = {}, {}
  if stands_in == 'mutexline' then runs = { redis.call('GET', base .. 'mutex:' .. mutex) or nil } end
  if stands_in == 'line' then runs = redis.call('ZRANGE', base .. 'idx:running:' .. workflow, 0, 9) end
  for _, run in ipairs(runs) do
    found[#found + 1] = run
    found[#found + 1] = redis.call('HGET', base .. 'run:' .. run, 'w') or ''
  end
  return found
end

local fields = {}
for i = 3, #ARGV do fields[#fields + 1] = ARGV[i] end
local stands, workers, known = place(), live_workers()
return {
  now, redis.call('HMGET', key, unpack(fields)), open_steps(), stands, workers, known, holders(stands[1]),
  redis.call('HGET', base .. 'meta:' .. workflow, 'max_concurrency') or '',
  throttle and redis.call('ZSCORE', base .. 'throttled', throttle) or '',
  redis.call('HMGET', base .. 'paused', 'q:' .. queue, 'w:' .. workflow),
}

-- verb: claim_runs
-- purpose: take up to `want` ready runs under a lease, each with all that its attempt needs
-- keys: 1 base
-- args: now, worker, token, lease_ms, want, retention, queue_count
-- item: queue
-- replies: {now, next_due, next_lease, more, run ...}; or 'unregistered'; more is idle | stop when it shall claim nothing;
--   a run is {id, fence, attempt, flat record} or, when it starts for the first time, {id, fence, attempt, w, c, q, m, i, t}
-- Sent again with the same token it answers the same runs, so a lost reply loses nothing; and more = 1: it looks for no others.
-- Runs that stand in line, are canceled, paused, unknown here or suspects beside one that the worker holds are set aside,
-- 200 a call.
-- include: server_now
-- include: open_batch
-- include: line_key
-- include: set_aside
-- include: forget_line
-- include: finish_run
-- include: knows_workflow
-- include: read_ready_run
-- include: room_of
-- include: read_pauses
-- include: quarantine_run
-- include: holds_suspect
-- include: start_run
-- include: close_batch
-- include: claimed_runs
-- include: note_idle
-- include: pass_bells
-- include: first_score
-- include: next_due
local base = KEYS[1]
local now = server_now(ARGV[1])
local worker, token, lease_ms, want = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local retention, queues = ARGV[6], { unpack(ARGV, 8, 7 + tonumber(ARGV[7])) }
local taken, looked, more, failure = {}, 0, 0, nil

local function take(queue, id, score)
  local run = read_ready_run(base, id)
  if not run then return end
  local workflow, status = run[1], run[2]
  if not knows_workflow(base, worker, workflow) then
    return set_aside(base, 'stray', queue, workflow, id, score, now)
  end
  if run[7] then
    local ended = { workflow = workflow, status = status, created = run[3] }
    return finish_run(base, id, ended, 'canceled', nil, now, retention)
  end
  if status == 'queued' and room_of(base, workflow) <= 0 then
    return set_aside(base, 'line', queue, workflow, id, score, now)
  end
  if tonumber(run[11] or '0') >= 2 then -- one more death makes it poison: one such run at a time in a worker
    if holds_suspect(base, worker) then return redis.call('ZADD', base .. 'suspects:' .. queue, score, id) end
    redis.call('HSET', base .. 'worker:' .. worker, 'suspect', id)
  end
  if status == 'queued' then rooms[workflow] = rooms[workflow] - 1 end
  taken[#taken + 1] = start_run(base, id, run, token, now, lease_ms)
end

-- A run that can't be taken since its record is broken must not cost the queue the others that were popped with it.
local function take_or_end(queue, id, score)
  looked = looked + 1
  if pcall(take, queue, id, score) then return end
  local ended, why = pcall(quarantine_run, base, id, now, retention)
  failure = failure or not ended and why
end

local function take_from(key, queue)
  while #taken < want and looked < 200 do
    local popped = redis.call('ZPOPMIN', key, math.min(want - #taken, 200 - looked))
    if #popped == 0 then return end
    if #popped > 2 then open_batch() end
    for i = 1, #popped, 2 do take_or_end(queue, popped[i], popped[i + 1]) end
  end
end

local function take_suspect(queue)
  while #taken < want and looked < 200 and not holds_suspect(base, worker) do
    local popped = redis.call('ZPOPMIN', base .. 'suspects:' .. queue)
    if #popped == 0 then return end
    take_or_end(queue, popped[1], popped[2])
  end
end

local function take_strays(serves)
  for _, name in ipairs(redis.call('ZRANGE', base .. 'strays', 0, 49)) do
    local length, rest = string.match(name, '^(%d+):(.*)$')
    local queue, workflow = string.sub(rest, 1, tonumber(length)), string.sub(rest, tonumber(length) + 2)
    if serves[queue] and knows_workflow(base, worker, workflow) then
      take_from(line_key(base, 'stray', queue, workflow), queue)
      forget_line(base, 'stray', queue, workflow)
    end
  end
end

local last = redis.call('HMGET', base .. 'worker:' .. worker, 'claim', 'claimed', 'app', 'drain')
if not last[3] then return 'unregistered' end
if last[1] == token then
  taken, more = claimed_runs(base, last[2], token), 1
elseif last[4] then
  pass_bells(base, worker, queues)
  return { now, next_due(base), first_score(base .. 'leases'), last[4] }
else
  local serves, aside = {}, { base .. 'strays', base .. 'paused' }
  for i, queue in ipairs(queues) do serves[queue], aside[i + 2] = true, base .. 'suspects:' .. queue end
  local rare = redis.call('EXISTS', unpack(aside)) > 0
  if rare then
    for queue in pairs(read_pauses(base)) do serves[queue] = nil end
    take_strays(serves)
  end
  for _, queue in ipairs(queues) do
    if rare and serves[queue] then take_suspect(queue) end
    if serves[queue] then take_from(base .. 'ready:' .. queue, queue) end
  end
  close_batch(base, retention, failure)
  local ids = {}
  for i, run in ipairs(taken) do ids[i] = run[1] end
  if ids[1] then redis.call('HSET', base .. 'worker:' .. worker, 'claim', token, 'claimed', table.concat(ids, ' ')) end
end
if looked >= 200 and #taken < want then more = 1 end
note_idle(base, worker, queues, #taken < want and more == 0)
return { now, next_due(base), first_score(base .. 'leases'), more, unpack(taken) }

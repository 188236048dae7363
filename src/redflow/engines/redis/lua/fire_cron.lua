-- verb: fire_cron
-- purpose: start the run of a cron tick, once, and set the trigger's next time
-- keys: 1 base
-- args: now, trigger, due, next, fires, run_id, latest_ms, missed, last_missed
-- replies: {code, next}: fired | skipped (too many unfinished runs) | missed (nothing was to fire) | late (look again: nothing
--   was done) | taken (the trigger waits for another time by now, or is paused) | unknown_workflow; next: the earliest of all triggers
-- due is the time the trigger waits for, next the one it is to wait for ('' for never), fires the tick that fires ('' for none)
-- unless it is more than latest_ms ago. One run of a trigger is unfinished at most; max_concurrency of a workflow beats that.
-- Sent again it answers taken and changes nothing.
-- include: server_now
-- include: create_run
-- include: plan_cron
-- include: first_score
local base, trigger, fires, run_id = KEYS[1], ARGV[2], ARGV[5], ARGV[6]
local now, key = server_now(ARGV[1]), KEYS[1] .. 'cron:' .. ARGV[2]

local function is_full(workflow, last)
  local limit = tonumber(redis.call('HGET', base .. 'meta:' .. workflow, 'max_concurrency') or '')
  if not limit then
    local status = last and redis.call('HGET', base .. 'run:' .. last, 's')
    return status == 'queued' or status == 'scheduled' or status == 'running'
  end
  local unfinished = 0
  for _, status in ipairs({ 'queued', 'scheduled', 'running' }) do
    unfinished = unfinished + redis.call('ZCARD', base .. 'idx:' .. status .. ':' .. workflow)
  end
  return unfinished >= limit
end

local function start(workflow, input, last)
  if is_full(workflow, last) then
    redis.call('HINCRBY', key, 'sc', 1)
    redis.call('HSET', key, 'st', fires)
    return 'skipped'
  end
  local code = create_run(base, now, '', {
    id = run_id, workflow = workflow, queue = '', max_attempts = '', input = input, run_at = '',
    key = '', ttl = '', priority = '', run_timeout = '', parent = '',
  })
  if code ~= 'created' then return code end
  redis.call('HSET', key, 'ft', fires, 'fr', run_id)
  return 'fired'
end

local function fire()
  local r = redis.call('HMGET', key, 'n', 'w', 'i', 'fr', 'pa')
  if not r[1] or r[1] ~= ARGV[3] or r[5] then return 'taken' end
  if fires ~= '' and now - tonumber(fires) > tonumber(ARGV[7]) then return 'late' end
  plan_cron(base, trigger, ARGV[4])
  if tonumber(ARGV[8]) > 0 then
    redis.call('HINCRBY', key, 'mc', ARGV[8])
    redis.call('HSET', key, 'mt', ARGV[9])
  end
  if fires == '' then return 'missed' end
  return start(r[2], r[3], r[4])
end

local code = fire()
return { code, first_score(base .. 'crons') }

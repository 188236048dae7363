-- verb: schedule_crons
-- purpose: give a workflow exactly these cron triggers
-- keys: 1 base
-- args: workflow, version
-- item: trigger, expression, timezone, input, user_id, next
-- replies: ok | older (the metadata is that of a worker which started later; nothing was changed) | unregistered
-- A trigger keeps its next time as long as expression and timezone stay. user_id comes as '=' .. id, next is a time in ms;
-- '' for none. meta:<workflow> remembers the triggers in their order. Workers are told of a new earliest time.
-- include: drop_cron
-- include: plan_cron
local base, workflow, version = KEYS[1], ARGV[1], ARGV[2]
local meta, wanted, names = base .. 'meta:' .. workflow, {}, {}

local function schedule(i)
  local trigger = ARGV[i]
  local key = base .. 'cron:' .. trigger
  local old = redis.call('HMGET', key, 'e', 'z', 'n')
  redis.call('HSET', key, 'w', workflow, 'e', ARGV[i + 1], 'z', ARGV[i + 2], 'i', ARGV[i + 3], 'id', ARGV[i + 4])
  local stays = old[1] == ARGV[i + 1] and old[2] == ARGV[i + 2] and tonumber(old[3] or '')
  plan_cron(base, trigger, stays and old[3] or ARGV[i + 5])
  local is_first = redis.call('ZRANGE', base .. 'crons', 0, 0)[1] == trigger
  if is_first and not stays then redis.call('PUBLISH', base .. 'timers', 'cron ' .. ARGV[i + 5]) end
end

redis.call('ZREM', base .. 'crons', '') -- starts with a removal, so that workers can start on a full Redis, and drain it
local known = redis.call('HMGET', meta, 'version', 'crons', 'app')
if not known[3] then return 'unregistered' end
if version ~= '' and known[1] and tonumber(known[1]) > tonumber(version) then return 'older' end
for i = 3, #ARGV, 6 do
  wanted[ARGV[i]] = true
  names[#names + 1] = ARGV[i]
end
for old in string.gmatch(known[2] or '', '%x+') do
  if not wanted[old] then drop_cron(base, old) end
end
for i = 3, #ARGV, 6 do schedule(i) end
if #names > 0 then
  redis.call('HSET', meta, 'crons', table.concat(names, ' '))
elseif known[2] then
  redis.call('HDEL', meta, 'crons')
end
return 'ok'

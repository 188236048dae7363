-- verb: await_run
-- purpose: enter a client among those that hear of a run's end, and read how it stands, in one instant
-- keys: 1 base
-- args: id, client, ttl_s
-- replies: the fields s, o, e, cw and mi of the record; a run that is gone or over is not entered
-- A full Redis enters nobody, and answers all the same: the client's slow check finds the end.
local run, waiters = KEYS[1] .. 'run:' .. ARGV[1], KEYS[1] .. 'waiters:' .. ARGV[1]
local r = redis.call('HMGET', run, 's', 'o', 'e', 'cw', 'mi')
if r[1] == 'scheduled' or r[1] == 'queued' or r[1] == 'running' then
  local entered = redis.pcall('SADD', waiters, ARGV[2])
  if type(entered) == 'number' then redis.call('EXPIRE', waiters, ARGV[3]) end
end
return r

-- The next number of seq: the order of runs of one priority. In a batch the counter is read once and counted on here;
-- write_indexes stores it.
-- include: index_run
local function next_seq(base)
  local key = base .. 'seq'
  if not collected.ZADD then return redis.call('INCR', key) end
  local counters = collected.counters
  counters[key] = (counters[key] or tonumber(redis.call('GET', key) or '0')) + 1
  return counters[key]
end

-- From now on what the runs of a batch write to the same keys, or have to look for, is collected. Whoever opens a batch catches
-- the errors of single runs and calls write_indexes or close_batch whatever happens, so that no record is left without its
-- index entries: docs/decisions/0020.
-- include: index_run
local function open_batch()
  if collected.ZADD then return end
  collected.ZREM, collected.ZADD, collected.counters = {}, {}, {}
  collected.ended, collected.ends, collected.freed = {}, {}, {}
end

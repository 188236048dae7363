-- Writes one entry of an index: ZADD (with a score) or ZREM of a run. In a batch (open_batch) it is only collected here;
-- write_indexes then writes all of one key by one command.
local collected = {}

local function index_run(command, key, id, score)
  local keys = collected[command]
  if not keys then
    if score then return redis.call(command, key, score, id) end
    return redis.call(command, key, id)
  end
  local list = keys[key]
  if not list then
    list = { n = 0 }
    keys[key] = list
  end
  local n = list.n
  if score then
    list[n + 1], list[n + 2], list.n = score, id, n + 2
  else
    list[n + 1], list.n = id, n + 1
  end
end

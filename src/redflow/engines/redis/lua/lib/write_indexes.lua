-- Writes the index entries that were collected, whatever happens to one of them; returns the first error.
-- include: index_run
-- include: write_list
local function write_indexes()
  local failure
  for _, command in ipairs({ 'ZREM', 'ZADD' }) do
    local keys = collected[command] or {}
    if next(keys) then collected[command] = {} end
    for key, list in pairs(keys) do
      local refused = write_list(command, key, list, list.n)
      failure = failure or refused
    end
  end
  for key, last in pairs(collected.counters or {}) do redis.call('SET', key, string.format('%d', last)) end
  return failure
end

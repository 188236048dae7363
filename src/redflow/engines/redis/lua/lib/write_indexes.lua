-- Writes the index entries that were collected. If a command is refused (one score is no number, a key has another type),
-- its entries are written one by one, so that only the bad one is missing; then the first error is raised.
-- include: index_run
local function write_indexes()
  local failure
  for _, command in ipairs({ 'ZREM', 'ZADD', 'RPUSH' }) do
    local keys, width = collected[command] or {}, command == 'ZADD' and 2 or 1
    if next(keys) then collected[command] = {} end
    for key, list in pairs(keys) do
      for first = 1, list.n, 1000 do -- unpack has a limit of some thousands
        local last = math.min(first + 999, list.n)
        local done = redis.pcall(command, key, unpack(list, first, last))
        if type(done) == 'table' then
          failure = failure or done
          for i = first, last, width do redis.pcall(command, key, unpack(list, i, i + width - 1)) end
        end
      end
    end
  end
  if failure then error(failure, 0) end
end

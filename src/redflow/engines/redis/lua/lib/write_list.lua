-- Writes a list of index entries (members, or score, member ... for ZADD) by one command. If that is refused, since one score is no
-- number or the key has another type, they are written one by one, so that only the bad one is missing. Returns the error.
local function write_list(command, key, list, length)
  local failure
  local width = command == 'ZADD' and 2 or 1
  for first = 1, length, 1000 do -- unpack has a limit of some thousands
    local last = math.min(first + 999, length)
    local done = redis.pcall(command, key, unpack(list, first, last))
    if type(done) == 'table' then
      failure = failure or done.err -- as a text: Redis 6.2 can't raise a table
      for i = first, last, width do redis.pcall(command, key, unpack(list, i, i + width - 1)) end
    end
  end
  return failure
end

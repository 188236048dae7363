-- Writes and removes fields of a hash. From ARGV[first] on stand pairs: a name after its sign, and a value.
-- '=' sets the field to the value, '-' removes it.
local function write_fields(key, first)
  for i = first, #ARGV, 2 do
    local name = string.sub(ARGV[i], 2)
    if string.sub(ARGV[i], 1, 1) == '=' then
      redis.call('HSET', key, name, ARGV[i + 1])
    else
      redis.call('HDEL', key, name)
    end
  end
end

-- verb: try_commands
-- purpose: find out which of the commands that scripts need this user may use, on a key that is gone at the end
-- keys: 1 base
-- args: none
-- item: command
-- replies: command and what the server says against it, for each that is refused
-- A command is its name and arguments, spaces between them; K stands for the key. Where the key can't be removed again
-- nothing else is tried.
local key = KEYS[1] .. 'doctor'
local refused = {}
for _, text in ipairs(ARGV) do
  local parts = {}
  for part in string.gmatch(text, '%S+') do parts[#parts + 1] = part == 'K' and key or part end
  local answer = redis.pcall(unpack(parts))
  if type(answer) == 'table' and answer.err then
    local said = string.lower(answer.err)
    local denied = string.find(said, 'permission', 1, true) or string.find(said, 'noperm', 1, true)
    if denied or string.find(said, 'user executing the script', 1, true) then -- the latter: before 7.2
      refused[#refused + 1], refused[#refused + 2] = parts[1], answer.err
      if parts[1] == 'DEL' then return refused end
    end
  end
end
return refused

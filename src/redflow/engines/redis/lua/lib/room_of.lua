-- How many more runs of a workflow may start. Looked up once in a call of the script; whoever starts one counts it off.
local rooms = {}

local function room_of(base, workflow)
  if not rooms[workflow] then
    local limit = tonumber(redis.call('HGET', base .. 'meta:' .. workflow, 'max_concurrency') or '')
    rooms[workflow] = limit and limit - redis.call('ZCARD', base .. 'idx:running:' .. workflow) or math.huge
  end
  return rooms[workflow]
end

-- Decides that a run fails since its time-out has passed; nobody decides anything else from now on.
-- include: store_payload
local function decide_timeout(base, id, workflow)
  local key = base .. 'run:' .. id
  local message = 'Run timed out: ' .. workflow .. ' after ' .. redis.call('HGET', key, 'to') .. ' ms'
  local failure = '{"name":"TimeoutError","message":' .. cjson.encode(message) .. ',"kind":"timeout","stack":' ..
    cjson.encode('redflow.errors.TimeoutError: ' .. message) .. '}'
  redis.call('ZREM', base .. 'timeouts', id)
  redis.call('HSET', key, 'z', store_payload(base, id, 'z', failure))
end

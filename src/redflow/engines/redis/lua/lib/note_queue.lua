-- Remembers a queue that no metadata names, so that operators see it: the last 10,000 of them.
local noted = {}

local function note_queue(base, queue, now)
  if noted[queue] then return end
  noted[queue] = true
  redis.call('ZADD', base .. 'queues', now, queue)
  redis.call('ZREMRANGEBYRANK', base .. 'queues', 0, -10001)
end

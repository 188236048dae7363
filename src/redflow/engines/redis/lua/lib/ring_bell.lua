-- Wakes one idle worker of the queue. A worker that died is still in the idle set, but nobody hears its
-- channel: take the next. The bell is a hint; a worker's slow check is the net under a lost one.
-- No script makes a worker idle before it rings, so that a queue without any is asked once in a call.
local nobody_idle = {}

local function ring_bell(base, queue)
  if nobody_idle[queue] then return end
  for _ = 1, 3 do
    local worker = redis.call('SPOP', base .. 'idle:' .. queue)
    if not worker then
      nobody_idle[queue] = true
      return
    end
    if redis.call('PUBLISH', base .. 'worker:' .. worker, 'bell') > 0 then return end
  end
end

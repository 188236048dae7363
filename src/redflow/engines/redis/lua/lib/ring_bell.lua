-- Wakes one idle worker of the queue. A worker that died is still in the idle set, but nobody hears its
-- channel: take the next. The bell is a hint; a worker's slow check is the net under a lost one.
local function ring_bell(base, queue)
  local idle = base .. 'idle:' .. queue
  for _ = 1, 3 do
    local worker = redis.call('SPOP', idle)
    if not worker then return end
    if redis.call('PUBLISH', base .. 'worker:' .. worker, 'bell') > 0 then return end
  end
end

-- The stored name of a queue: <app>:<queue>, unless the app is unknown or the queue carries it already.
local function scope_queue(queue, app)
  queue = string.match(queue, '^%s*(.-)%s*$')
  if queue == '' then queue = 'default' end
  if not app or app == '' or app == 'unknown' then return queue end
  if string.sub(queue, 1, #app + 1) == app .. ':' then return queue end
  return app .. ':' .. queue
end

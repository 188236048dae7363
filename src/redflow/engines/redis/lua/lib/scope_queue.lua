-- The stored name of a queue: <app>:<queue>, unless the app is unknown or the queue carries it already. Many runs of a batch
-- have the same.
local scoped = {}

local function scope_queue(queue, app)
  if scoped.queue == queue and scoped.app == app then return scoped.name end
  scoped.queue, scoped.app = queue, app
  queue = string.match(queue, '^%s*(.-)%s*$')
  if queue == '' then queue = 'default' end
  if app and app ~= '' and app ~= 'unknown' and string.sub(queue, 1, #app + 1) ~= app .. ':' then
    queue = app .. ':' .. queue
  end
  scoped.name = queue
  return queue
end

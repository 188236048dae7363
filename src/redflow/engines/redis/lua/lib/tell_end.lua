-- Tells everybody who waits for a run how it ended: clients, and steps of other runs.
-- include: tell_waiters
-- include: resolve_awaiters
local function tell_end(base, id, to, payload)
  tell_waiters(base, id, to, payload)
  resolve_awaiters(base, id, to, payload)
end

-- Gives an event to one waiting step, unless that is no longer open. Returns whether it did.
-- An event step's payload: <end> <deadline> <bytes of place> <place> <rest>; end is -, E (event) or T (timeout), rest of E is
-- <ts> <bytes of event id> <event id> <data>.
-- include: store_payload
-- include: wake_run
local function resolve_wait(base, run, field, place, event)
  local key = base .. 'run:' .. run
  local header, rest = string.match(redis.call('HGET', key, field) or '', '^(%d+ Re %d+ %-?%d+ %- )(.*)$')
  local kept = rest and string.match(rest, '^%-( %d+ )')
  if not kept or rest ~= '-' .. kept .. #place .. ' ' .. place .. ' ' then return false end
  local status = redis.call('HGET', key, 's')
  if status ~= 'scheduled' and status ~= 'running' and status ~= 'queued' then return false end
  local data = store_payload(base, run, field, event.data)
  redis.call('HSET', key, 'v:' .. place, event.seq, field,
    header .. 'E' .. string.sub(rest, 2) .. event.ts .. ' ' .. #event.id .. ' ' .. event.id .. ' ' .. data)
  wake_run(base, run)
  return true
end

-- Puts a child's end into the parent's step that waits for it, which stays open until the parent has looked. A parent that
-- has ended never looks.
-- A child step's payload: <end> <child> <generation> <own|foreign> <output or error>; end is S, F or C, - while it lives.
-- include: store_payload
-- include: wake_run
local function resolve_child(base, child, to, payload, parent, field)
  local packed, status = unpack(redis.call('HMGET', base .. 'run:' .. parent, field, 's'))
  if status ~= 'running' and status ~= 'scheduled' and status ~= 'queued' then return end
  local header, rest = string.match(packed or '', '^(%d+ Rc %d+ %-?%d+ %- )(.*)$')
  local of, kept = string.match(rest or '', '^%- (%x+)( %d+ %l+ )')
  if of ~= child then return end
  local letter = to == 'succeeded' and 'S' or to == 'failed' and 'F' or 'C'
  redis.call('HSET', base .. 'run:' .. parent, field,
    header .. letter .. ' ' .. child .. kept .. store_payload(base, parent, field, payload or ''))
  wake_run(base, parent)
end

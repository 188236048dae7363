-- A step's child was merged into another run: that one is its child from now on. Returns whether the step waits for it.
local function rename_child(base, parent, field, from, to)
  local key = base .. 'run:' .. parent
  local header, child, kept = string.match(redis.call('HGET', key, field) or '',
    '^(%d+ Rc %d+ %-?%d+ %- %- )(%x+)( %d+ )%l+ $')
  if child ~= from then return false end
  redis.call('HSET', key, field, header .. to .. kept .. 'foreign ')
  return true
end

-- Ends a batch, if one was opened: writes its index entries, takes the runs that ended out of the leases and into the list of their
-- retention, tells whoever waits for them, and gives freed slots to the next in line. Raises the first error, that of a run
-- (failure) before all.
-- include: index_run
-- include: write_indexes
-- include: write_list
-- include: tell_ends
-- include: hand_over
local function close_batch(base, retention, failure)
  local ended, ends, freed = collected.ended, collected.ends, collected.freed
  if ended then
    local refused = write_indexes()
    for name in pairs(collected) do collected[name] = nil end -- what is written from here on is written at once
    local unleased = write_list('ZREM', base .. 'leases', ended, #ended)
    local unkept = write_list('RPUSH', base .. 'expiry:' .. retention, ended, #ended)
    local untold = tell_ends(base, ended, ends)
    for workflow in pairs(freed) do hand_over(base, workflow) end
    failure = failure or refused or unleased or unkept or untold
  end
  if failure then error(failure, 0) end
end

-- Ends a batch, if one was opened: writes its index entries, then tells its ends to whoever waits for them, then gives the freed slots to the next in
-- line. Raises the first error, that of a run (failure) before all.
-- include: index_run
-- include: write_indexes
-- include: tell_ends
-- include: hand_over
local function close_batch(base, failure)
  local ended, freed = collected.ended, collected.freed
  if ended then
    local written, why = pcall(write_indexes)
    for name in pairs(collected) do collected[name] = nil end
    local untold = tell_ends(base, ended)
    for workflow in pairs(freed) do hand_over(base, workflow) end
    failure = failure or not written and why or untold
  end
  if failure then error(failure, 0) end
end

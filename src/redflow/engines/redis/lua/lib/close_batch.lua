-- Writes what a batch of runs has collected: index entries, then the ends for whoever waits for them, then the freed slots for the
-- next in line. Raises the first error, that of a run (failure) before all.
-- include: index_run
-- include: write_indexes
-- include: tell_ends
-- include: hand_over
local function close_batch(base, failure)
  local written, why = pcall(write_indexes)
  failure = failure or not written and why
  local untold = tell_ends(base)
  failure = failure or untold
  for workflow in pairs(collected.freed) do hand_over(base, workflow) end
  if failure then error(failure, 0) end
end

-- A run of a workflow is no longer running: the next in line may. In a batch, once it is over, when its runs have left the index.
-- include: index_run
-- include: hand_over
local function free_slot(base, workflow)
  if collected.freed then
    collected.freed[workflow] = true
  else
    hand_over(base, workflow)
  end
end

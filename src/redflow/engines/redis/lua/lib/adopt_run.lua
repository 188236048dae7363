-- Enters a new run among its parent's children, which stand with the parent: on another shard by an entry.
-- include: stored_id
-- include: enter_child
-- include: other_shard
-- include: post_entry
local function adopt_run(base, id, parent)
  local holder = stored_id(parent)
  if not holder then return end
  if other_shard(base, holder) then
    post_entry(base, 'adopt ' .. id .. ' ' .. holder .. ' -')
  else
    enter_child(base, id, holder)
  end
end

-- The part of a key that stands for a debounce: workflow, scoped queue and the user's key. Lengths keep them apart.
local function debounce_place(workflow, queue, key)
  return #workflow .. ':' .. workflow .. ':' .. #queue .. ':' .. queue .. ':' .. key
end

-- The pairs (event, trigger) that the metadata of a workflow remembers; none where they are broken, and then true, too.
local function event_pairs(text)
  local readable, stored = pcall(cjson.decode, text or '[]')
  if not readable or type(stored) ~= 'table' then return {}, true end
  local pairs_of = {}
  for _, pair in ipairs(stored) do
    if type(pair) ~= 'table' or type(pair[1]) ~= 'string' or type(pair[2]) ~= 'string' then return {}, true end
    pairs_of[#pairs_of + 1] = pair
  end
  return pairs_of, false
end

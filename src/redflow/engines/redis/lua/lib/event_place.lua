-- The part of a key that stands for an event name and a second text. The length keeps two pairs from ever meaning a third.
local function event_place(name, text)
  return #name .. ':' .. name .. ':' .. text
end

-- A whole number as the text to be stored. Redis takes numbers of a script too, but prints them by its slowest format; here
-- each is printed once in a call.
local int_texts = {}

local function int_text(number)
  local text = int_texts[number]
  if not text then
    text = string.format('%d', number)
    int_texts[number] = text
  end
  return text
end

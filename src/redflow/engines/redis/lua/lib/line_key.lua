-- A line of runs of one workflow in one queue. The length keeps two names from ever meaning a third.
local function line_key(base, kind, queue, workflow)
  return base .. kind .. ':' .. #queue .. ':' .. queue .. ':' .. workflow
end

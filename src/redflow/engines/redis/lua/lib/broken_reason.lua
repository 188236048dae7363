-- What a batch answers of a run whose part of it raised an error: its record, or one that it belongs to, is broken. Servers give
-- the error of a command as a table or as a text.
local function broken_reason(why)
  return 'broken: ' .. (type(why) == 'table' and why.err or tostring(why))
end

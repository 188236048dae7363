-- The stored id (32 hex digits) of a public run id; nil for what is none of ours.
local function stored_id(public)
  local hex, dashes = string.gsub(string.match(public, '^run_(.*)$') or '', '-', '')
  if #hex == 32 and dashes == 4 and not string.find(hex, '%X') then return hex end
  return nil
end

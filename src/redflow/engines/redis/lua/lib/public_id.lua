-- The public run id, run_<uuid>, of a stored one.
local function public_id(id)
  return 'run_' .. string.sub(id, 1, 8) .. '-' .. string.sub(id, 9, 12) .. '-' .. string.sub(id, 13, 16) .. '-' ..
    string.sub(id, 17, 20) .. '-' .. string.sub(id, 21)
end

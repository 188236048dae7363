-- A payload of an ended run whose record is packed (see pack_record); nil if the record isn't, or lacks it.
local function packed_value(base, id, wanted)
  local pieces, at = {}, 1
  while true do
    local piece = redis.call('HGET', base .. 'run:' .. id, #pieces)
    if not piece then break end
    pieces[#pieces + 1] = piece
  end
  local text = table.concat(pieces)
  while true do
    local name_size, size, elsewhere, first = string.match(text, '^(%d+) (%d+)@?(%d*) ()', at)
    if not first then return nil end
    local middle = first + tonumber(name_size)
    local start = tonumber(elsewhere) or middle
    at = elsewhere == '' and middle + tonumber(size) or middle
    if string.sub(text, first, middle - 1) == wanted then return string.sub(text, start, start + tonumber(size) - 1) end
  end
end

-- Makes the record of a run that has ended small. A value or name over 64 bytes has turned its hash into a table, whose
-- every field costs some 60 bytes more. Payloads that long (i, o, e, s:, a:, v:) are joined to one text, it is cut into
-- fields 0, 1, 2 ... of 64 bytes, and the hash is written anew. What scripts look at keeps its field; packed_value finds
-- the rest. The text is, for each payload, `<bytes of name> <bytes of value> <name><value>`; an output that stands in it
-- already, as the result of a step say, is `1 <bytes>@<first byte in the text> o`.
-- Large records, to which a table adds little, stay as they are; so do all where a server answers neither question.
local packable = { i = true, e = true, ['s:'] = true, ['a:'] = true, ['v:'] = true }

local function pack_record(base, id)
  local key, text, count, output = base .. 'run:' .. id, '', 0
  if redis.pcall('OBJECT', 'ENCODING', key) ~= 'hashtable' then return end
  local used = redis.pcall('MEMORY', 'USAGE', key) -- by samples: nothing of megabytes is read
  if type(used) ~= 'number' or used > 16384 then return end
  local fields = redis.call('HGETALL', key)
  for at = 1, #fields, 2 do
    local name, value = fields[at], fields[at + 1]
    if #name <= 64 and #value <= 64 then
      fields[count + 1], fields[count + 2] = name, value
      count = count + 2
    elseif name == 'o' then
      output = value
    elseif packable[string.sub(name, 1, 2)] then
      text = text .. #name .. ' ' .. #value .. ' ' .. name .. value
    else
      return
    end
  end
  if output then
    local first = #text + #output < 4096 and string.find(text, output, 1, true)
    text = text .. '1 ' .. #output .. (first and '@' .. first .. ' o' or ' o' .. output)
  end
  if #text > 2048 then return end
  for first = 1, #text, 64 do
    fields[count + 1], fields[count + 2] = (first - 1) / 64, string.sub(text, first, first + 63)
    count = count + 2
  end
  redis.call('DEL', key)
  redis.call('HSET', key, unpack(fields, 1, count))
end

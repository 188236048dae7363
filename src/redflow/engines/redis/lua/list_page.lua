-- verb: list_page
-- purpose: one page of ids over several indexes, in the order of time (then id); writes nothing
-- keys: 1 base
-- args: newest_first, cursor_time, cursor_id, limit
-- item: index
-- replies: id, time ... in order
-- The cursor is exclusive; '' starts at the end. A cursor without an id means a time: all entries of that ms are passed over.
-- Only as many indexes are read as a page can hold entries: those whose first entry comes first.
local base, newest_first = KEYS[1], ARGV[1] == '1'
local cursor, cursor_id, limit = ARGV[2], ARGV[3], tonumber(ARGV[4])
local range = newest_first and 'ZREVRANGE' or 'ZRANGE'

local function before(a, b)
  if a.created ~= b.created then return (a.created > b.created) == newest_first end
  return a.id ~= b.id and (a.id > b.id) == newest_first
end

local function first_after_cursor(key)
  if cursor == '' then return 0 end
  local passed
  if newest_first then
    passed = redis.call('ZCOUNT', key, '(' .. cursor, '+inf')
  else
    passed = redis.call('ZCOUNT', key, '-inf', '(' .. cursor)
  end
  local low, high = 0, redis.call('ZCOUNT', key, cursor, cursor)
  if cursor_id == '' then return passed + high end
  local at = { created = tonumber(cursor), id = cursor_id }
  while low < high do
    local middle = math.floor((low + high) / 2)
    local id = redis.call(range, key, passed + middle, passed + middle)[1]
    if before(at, { created = at.created, id = id }) then high = middle else low = middle + 1 end
  end
  return passed + low
end

local heads = {}
for i = 5, #ARGV do
  local key = base .. ARGV[i]
  local start = first_after_cursor(key)
  local head = redis.call(range, key, start, start, 'WITHSCORES')
  if head[1] then
    heads[#heads + 1] = { id = head[1], created = tonumber(head[2]), key = key, start = start }
  end
end
table.sort(heads, before)
local page = {}
for i = 1, math.min(limit, #heads) do
  local head = heads[i]
  local found = redis.call(range, head.key, head.start, head.start + limit - 1, 'WITHSCORES')
  for j = 1, #found, 2 do page[#page + 1] = { id = found[j], created = tonumber(found[j + 1]) } end
end
table.sort(page, before)
local reply = {}
for i = 1, math.min(limit, #page) do
  reply[#reply + 1] = page[i].id
  reply[#reply + 1] = string.format('%d', page[i].created)
end
return reply

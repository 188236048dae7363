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
    heads[#heads + 1] = { id = head[1], created = tonumber(head[2]), key = key, start = start + 1, ahead = {}, at = 1 }
  end
end
table.sort(heads, before)
for i = #heads, limit + 1, -1 do heads[i] = nil end
local chunk = math.ceil(2 * limit / math.max(1, #heads)) + 4

-- The next entry of an index stands at its head; false if there is none.
local function advance(head)
  if not head.ahead[head.at] then
    head.ahead, head.at = redis.call(range, head.key, head.start, head.start + chunk - 1, 'WITHSCORES'), 1
    head.start = head.start + chunk
  end
  head.id, head.created = head.ahead[head.at], tonumber(head.ahead[head.at + 1] or '')
  head.at = head.at + 2
  return head.id
end

local function place_again(head) -- where it belongs among the others, which are in order
  local low, high = 1, #heads + 1
  while low < high do
    local middle = math.floor((low + high) / 2)
    if before(heads[middle], head) then low = middle + 1 else high = middle end
  end
  table.insert(heads, low, head)
end

local reply = {}
while heads[1] and #reply < 2 * limit do
  local head = table.remove(heads, 1)
  reply[#reply + 1] = head.id
  reply[#reply + 1] = string.format('%d', head.created)
  if advance(head) then place_again(head) end
end
return reply

-- Stands before the body of every verb in the copy of the sources that the chaos tests run; the product has none of it.
-- It looks at each write that the verb really makes and, when the verb is over, tells of all of them in one entry of the
-- stream audit:<base>, atomically with them. A planted bug changes what is written, never what is seen of it.
-- A note is a list: kind, run (or another name), further words.
local audit_notes, audit_writers, audit_gone = {}, nil, {}
local audit_base = KEYS[1]
local function audit_note(...) audit_notes[#audit_notes + 1] = { ... } end

-- Who writes to a run: the fence and token that came with its id among the arguments. A batch may bring a run twice, when one
-- worker held it under two claims: then the n-th look at the record by owned_run is for the n-th of them.
local audit_looks = {}

local function audit_writer(id)
  if not audit_writers then
    audit_writers = {}
    for i = 1, #ARGV - 2 do
      if #ARGV[i] == 32 and string.find(ARGV[i + 1], '^%d+$') and string.find(ARGV[i + 2], '^%w+%.') then
        local all = audit_writers[ARGV[i]] or {}
        all[#all + 1] = ARGV[i + 1] .. ' ' .. ARGV[i + 2]
        audit_writers[ARGV[i]] = all
      end
    end
  end
  local all = audit_writers[id] or {}
  return all[math.min(math.max(audit_looks[id] or 1, 1), #all)] or ''
end

local audit_fields = {
  s = 'status', n = 'fence', k = 'token', a = 'attempt', cr = 'cancel', x = 'deaths', d = 'due', mk = 'mutex',
  ad = 'admitted', p = 'parent', w = 'workflow', z = 'decided', q = 'queue', di = 'rearmed', f = 'finished',
}

local function audit_hset(server, key, args)
  local id = string.match(key, ':run:(%x+)$')
  if id and audit_gone[id] then -- a record that was packed: the same, written anew
    audit_notes[audit_gone[id]][1] = 'packed'
    return
  end
  local cron = string.match(key, ':cron:(%x+)$')
  for i = 1, #args - 1, 2 do
    local field, value = tostring(args[i]), tostring(args[i + 1])
    if cron and (field == 'fr' or field == 'ft') then audit_note('tick ' .. field, cron, value) end
    if id and audit_fields[field] then
      if field == 'z' then value = server.sha1hex(value) end
      audit_note(audit_fields[field], id, value, field == 's' and audit_writer(id) or '')
    elseif id and (field == 'o' or field == 'e' or field == 'i') then
      audit_note('payload ' .. field, id, server.sha1hex(value))
    elseif id and string.sub(field, 1, 2) == 's:' then
      local letters, attempt, rest = string.match(value, '^%d+ (%a+) (%d+) (.*)$')
      if letters then
        local payload = string.match(rest, '^%-?%d+ [%-%d]+ (.*)$') or rest
        audit_note('step', id, string.sub(field, 3), letters, attempt, server.sha1hex(payload), audit_writer(id),
          string.sub(payload, 1, 1))
      end
    end
  end
end

local function audit_look(server, reply, command, key, ...)
  local args = { ... }
  if command == 'HSET' then return audit_hset(server, key, args) end
  if command == 'HMGET' and args[1] == 's' and args[2] == 'n' and args[3] == 'k' then
    local looked_at = string.match(key, ':run:(%x+)$')
    if looked_at then audit_looks[looked_at] = (audit_looks[looked_at] or 0) + 1 end
  end
  local place = string.sub(key or '', #audit_base + 1)
  if command == 'HDEL' then
    local id = string.match(place, '^run:(%x+)$')
    for _, field in ipairs(args) do
      if id and (field == 'k' or field == 'a') then audit_note('without ' .. field, id) end
    end
  elseif command == 'ZADD' and place == 'leases' then
    for i = 1, #args - 1, 2 do audit_note('lease', args[i + 1], string.format('%d', args[i])) end
  elseif command == 'SET' and string.sub(place, 1, 6) == 'mutex:' then
    audit_note('owner', args[1], string.sub(place, 7))
  elseif command == 'DEL' and string.sub(place, 1, 6) == 'mutex:' then
    audit_note('owner', '', string.sub(place, 7))
  elseif command == 'SET' and string.sub(place, 1, 5) == 'idem:' then
    audit_note('key', args[1], string.sub(place, 6))
  elseif (command == 'DEL' or command == 'UNLINK') and string.sub(place, 1, 4) == 'run:' then
    audit_note('purged', string.sub(place, 5))
    audit_gone[string.sub(place, 5)] = #audit_notes
  elseif command == 'INCR' and place == 'epoch' then
    audit_note('epoch', '', tostring(reply))
  elseif command == 'HINCRBY' and string.sub(place, 1, 5) == 'cron:' then
    audit_note('tick ' .. args[1], string.sub(place, 6), tostring(args[2]))
  elseif command == 'HINCRBY' and string.sub(place, 1, 4) == 'run:' and audit_fields[args[1]] then
    audit_note(audit_fields[args[1]], string.sub(place, 5), tostring(reply), '')
  elseif command == 'SADD' and string.sub(place, 1, 8) == 'resumed:' then
    audit_note('resumed', args[1], string.sub(place, 9))
  end
end

local redis = (function(server)
  local function looked(reply, ...)
    if not (type(reply) == 'table' and reply.err) then audit_look(server, reply, ...) end
    return reply
  end
  return {
    call = function(...) return looked(server.call(...), ...) end,
    pcall = function(...) return looked(server.pcall(...), ...) end,
    sha1hex = server.sha1hex, error_reply = server.error_reply, status_reply = server.status_reply,
    audit_end = function(verb)
      if #audit_notes > 0 then
        server.call('XADD', 'audit:' .. audit_base, '*', 'v', verb, 'n', cjson.encode(audit_notes))
      end
    end,
  }
end)(redis)

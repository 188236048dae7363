-- Stands before the body of every script that the simulation runs; the product has none of it.
-- KEYS[2] is the time, ms, and KEYS[3] a number by which sets are asked for "any" of their members. No key really
-- expires: times to live are told to the harness, which removes keys when the virtual clock is there. What a script
-- changed is answered beside its reply: {reply, {key, type, content} ..., told}.
local sim_now, sim_chance = tonumber(KEYS[2]), tonumber(KEYS[3])
local redis = (function(server)
  local seen, keys, told = {}, {}, {}
  local reads = {}
  for name in string.gmatch('EXISTS GET HEXISTS HGET HMGET LLEN LRANGE SCARD SISMEMBER TYPE ZCARD ZRANGE ZRANGEBYSCORE '
    .. 'ZRANK ZREVRANGE ZREVRANGEBYSCORE ZSCORE ZCOUNT HLEN LINDEX STRLEN MEMORY PING MGET LPOS ZRANGEBYLEX HSTRLEN '
    .. 'ZMSCORE SMISMEMBER GETRANGE HKEYS ZREVRANK INFO', '%u+') do
    reads[name] = true
  end

  local function touch(key)
    if not seen[key] then
      seen[key] = true
      keys[#keys + 1] = key
    end
  end

  local function tell(...) told[#told + 1] = { ... } end

  local function expire(raw, key, at)
    if raw('EXISTS', key) == 0 then return 0 end
    tell('ttl', key, string.format('%d', at))
    return 1
  end

  local function in_order(raw, command, key)
    local all = raw(command, key)
    table.sort(all)
    return all
  end

  local function any(all, count, step)
    local some, from = {}, sim_chance % math.max(1, #all / step)
    for i = 0, math.min(count, #all / step) - 1 do some[#some + 1] = all[(from + i) % (#all / step) * step + 1] end
    return some
  end

  local special = {}

  function special.TIME() return { string.format('%d', math.floor(sim_now / 1000)), string.format('%d', sim_now % 1000 * 1000) } end

  function special.PUBLISH(raw, channel, message)
    tell('said', channel, message)
    return raw('SISMEMBER', 'sim:ears', channel)
  end

  function special.EXPIRE(raw, key, seconds) return expire(raw, key, sim_now + 1000 * tonumber(seconds)) end

  function special.PEXPIRE(raw, key, ms) return expire(raw, key, sim_now + tonumber(ms)) end

  function special.PEXPIREAT(raw, key, at) return expire(raw, key, tonumber(at)) end

  function special.PERSIST(raw, key)
    tell('stay', key)
    return raw('EXISTS', key)
  end

  function special.SET(raw, key, value, ...)
    local given, plain, at = { ... }, {}, nil
    local i = 1
    while i <= #given do
      local word = string.upper(given[i])
      if word == 'EX' or word == 'PX' then
        at = sim_now + tonumber(given[i + 1]) * (word == 'EX' and 1000 or 1)
        i = i + 1
      else
        plain[#plain + 1] = given[i]
      end
      i = i + 1
    end
    local reply = raw('SET', key, value, unpack(plain))
    if reply then
      touch(key)
      tell(at and 'ttl' or 'stay', key, at and string.format('%d', at) or '')
    end
    return reply
  end

  function special.SMEMBERS(raw, key) return in_order(raw, 'SMEMBERS', key) end

  function special.SPOP(raw, key)
    local chosen = any(in_order(raw, 'SMEMBERS', key), 1, 1)[1]
    if not chosen then return false end
    touch(key)
    raw('SREM', key, chosen)
    return chosen
  end

  function special.SRANDMEMBER(raw, key, count) return any(in_order(raw, 'SMEMBERS', key), tonumber(count), 1) end

  function special.HRANDFIELD(raw, key, count) return any(in_order(raw, 'HKEYS', key), tonumber(count), 1) end

  function special.HGETALL(raw, key)
    local flat, fields, places, sorted = raw('HGETALL', key), {}, {}, {}
    for i = 1, #flat, 2 do
      fields[#fields + 1] = flat[i]
      places[flat[i]] = i
    end
    table.sort(fields)
    for _, field in ipairs(fields) do
      sorted[#sorted + 1] = field
      sorted[#sorted + 1] = flat[places[field] + 1]
    end
    return sorted
  end

  local function through(raw, command, key, ...)
    command = string.upper(command)
    if special[command] then return special[command](raw, key, ...) end
    if reads[command] then return raw(command, key, ...) end
    if command == 'DEL' or command == 'UNLINK' then
      for _, other in ipairs({ ... }) do touch(other) end
    end
    touch(key)
    return raw(command, key, ...)
  end

  local content = {
    hash = function(key) return server.call('HGETALL', key) end,
    zset = function(key) return server.call('ZRANGE', key, 0, -1, 'WITHSCORES') end,
    set = function(key) return server.call('SMEMBERS', key) end,
    list = function(key) return server.call('LRANGE', key, 0, -1) end,
    string = function(key) return { server.call('GET', key) } end,
    none = function() return {} end,
  }

  return {
    call = function(...) return through(server.call, ...) end,
    pcall = function(...) return through(server.pcall, ...) end,
    sha1hex = server.sha1hex, error_reply = server.error_reply, status_reply = server.status_reply,
    log = server.log, LOG_WARNING = server.LOG_WARNING,
    sim_end = function(reply)
      local changed = {}
      for i, key in ipairs(keys) do
        local kind = server.call('TYPE', key).ok
        changed[i] = { key, kind, content[kind](key) }
      end
      if reply == nil then reply = false end
      return { reply, changed, told }
    end,
  }
end)(redis)

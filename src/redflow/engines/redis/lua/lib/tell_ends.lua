-- Tells the ends of runs: ids, and for each its status and payload in `ends`. One look for all says whether anybody waits for one
-- of them; under load nobody does. Returns the first error; the others are told all the same.
-- include: tell_end
local function tell_ends(base, ids, ends)
  local keys, failure = {}, nil
  for i, id in ipairs(ids) do
    keys[2 * i - 1], keys[2 * i] = base .. 'waiters:' .. id, base .. 'awaiters:' .. id
  end
  for first = 1, #ids, 500 do
    local last = math.min(first + 499, #ids)
    if redis.call('EXISTS', unpack(keys, 2 * first - 1, 2 * last)) > 0 then
      for i = first, last do
        local told, why = pcall(tell_end, base, ids[i], ends[2 * i - 1], ends[2 * i])
        failure = failure or not told and why
      end
    end
  end
  return failure
end

-- Tells the ends that a batch collected, {id, to, payload} each. One look for all says whether anybody waits for one of them; under load nobody does.
-- Returns the first error; the others are told all the same.
-- include: tell_end
local function tell_ends(base, ended)
  local keys, failure = {}, nil
  for i, run in ipairs(ended) do
    keys[2 * i - 1], keys[2 * i] = base .. 'waiters:' .. run.id, base .. 'awaiters:' .. run.id
  end
  for first = 1, #ended, 500 do
    local last = math.min(first + 499, #ended)
    if redis.call('EXISTS', unpack(keys, 2 * first - 1, 2 * last)) > 0 then
      for i = first, last do
        local told, why = pcall(tell_end, base, ended[i].id, ended[i].to, ended[i].payload)
        failure = failure or not told and why
      end
    end
  end
  return failure
end

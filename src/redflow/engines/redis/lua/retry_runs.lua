-- verb: retry_runs
-- purpose: let failed runs go on as the same runs: finished steps kept, as many further attempts as they had, a new time-out
-- keys: 1 base
-- args: now, operation
-- item: id, fence, finished, trace_field, trace, pair_count
-- replies: per item retried | changed (its record is another one by now: look again) | unknown | the status it has instead of failed
-- fence and finished are those of the record that the caller has read ('' for none). Each item is followed by pair_count times
-- (field, value): payloads that a packed record had under no name of their own. trace_field of '' stands for no trace.
-- operation: id of this call; what it retried it answers the same when it is sent again.
-- Its entry in the list of its retention stays: rx counts such, and purge_runs passes over them.
-- include: server_now
-- include: set_status
-- include: store_payload
-- include: enqueue_run
-- include: start_clock
local base, operation = KEYS[1], ARGV[2]
local now, pieces = server_now(ARGV[1]), {}
for i = 1, 33 do pieces[i] = i - 1 end

local function retry(i, first, last)
  local id = ARGV[i]
  local key = base .. 'run:' .. id
  local r = redis.call('HMGET', key, 's', 'n', 'f', 'w', 'c', 'q', 'a', 'm', 'pr', 'to', 'rb', 'ro', 'rx')
  if not r[1] then return 'unknown' end
  if r[12] == operation then return 'retried' end
  if r[1] ~= 'failed' then return r[1] end
  if (r[2] or '') ~= ARGV[i + 1] or r[3] ~= ARGV[i + 2] then return 'changed' end
  local attempts, budget = tonumber(r[7] or '0'), tonumber(r[11] or r[8] or '3')
  redis.call('HSET', key, 'm', attempts + budget, 'rb', budget, 'ro', operation, 'rx', tonumber(r[13] or '0') + 1,
    unpack(ARGV, first, last))
  if ARGV[i + 3] ~= '' then
    local stored = r[3] .. ' ' .. store_payload(base, id, ARGV[i + 3], ARGV[i + 4])
    redis.call('HSET', key, ARGV[i + 3], stored)
  end
  redis.call('HDEL', base .. 'big:' .. id, 'e') -- also one of an earlier attempt
  redis.call('HDEL', key, 'f', 'e', 'ta', unpack(pieces))
  if attempts > 0 then start_clock(base, id, now, r[10]) end
  set_status(base, id, r[4], r[5], 'failed', 'queued')
  enqueue_run(base, id, r[6], false, r[9])
  return 'retried'
end

local reply, i = {}, 3
while i <= #ARGV do
  local last = i + 5 + 2 * tonumber(ARGV[i + 5])
  reply[#reply + 1] = retry(i, i + 6, last)
  i = last + 1
end
return reply

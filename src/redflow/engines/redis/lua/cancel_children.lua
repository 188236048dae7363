-- verb: cancel_children
-- purpose: carry cancels down the tree, a bounded number of runs a call
-- keys: 1 base
-- args: now, limit, retention
-- replies: {canceled, more}: how many runs were canceled or asked to stop, and 1 as long as some are left
-- Children get the reason of the cancel that reached them. What lies below a finished child follows too. One on another
-- shard is not counted: an entry goes there.
-- include: server_now
-- include: cancel_one
-- include: cascade_from
-- include: other_shard
-- include: post_entry
local base, now, limit = KEYS[1], server_now(ARGV[1]), tonumber(ARGV[2])
local canceled = 0

local function cancel_kids(parent)
  local key, reason = base .. 'kids:' .. parent, redis.call('HGET', base .. 'cascade', parent)
  while limit > 0 do
    local kid = redis.call('SPOP', key)
    if not kid then break end
    redis.call('SADD', base .. 'reached:' .. parent, kid)
    limit = limit - 1
    local answer = 'unknown'
    if other_shard(base, kid) then
      post_entry(base, 'cancel ' .. parent .. ' ' .. kid .. ' -', reason)
    else
      answer = cancel_one(base, kid, reason, now, ARGV[3])
    end
    if answer == 'finished' then cascade_from(base, kid, reason) end
    if answer == 'canceled' or answer == 'requested' then canceled = canceled + 1 end
  end
  if redis.call('EXISTS', key) == 0 then redis.call('HDEL', base .. 'cascade', parent) end
end

for _, parent in ipairs(redis.call('HRANDFIELD', base .. 'cascade', 20)) do
  if limit > 0 then cancel_kids(parent) end
end
return { canceled, redis.call('EXISTS', base .. 'cascade') }

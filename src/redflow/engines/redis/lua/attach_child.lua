-- verb: attach_child
-- purpose: write the step of a child that start_away made on another shard
-- keys: 1 base
-- args: parent, fence, token, field, header, generation, awaited, child, kind
-- replies: open | found (what came for the step before it was written has decided it) | cancel | timeout | stale | gone | settled
-- kind: own | foreign (found by an idempotency key). header, generation and awaited as for start_children.
-- include: owned_run
-- include: enter_child
-- include: public_id
-- include: early_end
local base, parent, field, header, child, kind = KEYS[1], ARGV[1], ARGV[4], ARGV[5], ARGV[8], ARGV[9]
local key = base .. 'run:' .. parent

redis.call('ZREM', base .. 'leases', '') -- starts with a removal, so that a full Redis still drains
local run, reason = owned_run(base, parent, ARGV[2], ARGV[3])
if not run then return reason end
if run.cancel then return 'cancel' end
if run.decided then return 'timeout' end
if run.deaths then redis.call('HDEL', key, 'x') end
if kind == 'own' then enter_child(base, child, parent) end
if ARGV[7] ~= '1' then
  redis.call('HSET', key, field, header .. '"' .. public_id(child) .. '"')
  return 'open'
end
local name = 'w:' .. child .. ':' .. field
local into = string.match(redis.call('HGET', key, name) or '', '^moved (%x+)$')
if into then
  redis.call('HDEL', key, name)
  child, kind = into, 'foreign'
end
redis.call('HSET', key, field, header .. '- ' .. child .. ' ' .. ARGV[6] .. ' ' .. kind .. ' ')
return early_end(base, parent, field, child) and 'found' or 'open'

-- Where a workflow lives, and whether that is another shard than this one.
local function workflow_shard(base, workflow)
  local own, count = string.match(base, '%.(%d+)/(%d+)}:$')
  if not own then return 0, false end
  local shard = tonumber(string.sub(redis.sha1hex(workflow), 1, 8), 16) % tonumber(count)
  return shard, shard ~= tonumber(own)
end

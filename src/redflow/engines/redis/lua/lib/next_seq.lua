-- The next number of seq: the order of runs of one priority. In a batch of a known size the counter is raised once for all; numbers
-- that are not used leave a gap, which means nothing.
-- include: index_run
local reserved = { left = 0 }

local function next_seq(base)
  if reserved.left == 0 then
    reserved.left = collected.size or 1
    reserved.last = redis.call('INCRBY', base .. 'seq', reserved.left)
  end
  reserved.left = reserved.left - 1
  return reserved.last - reserved.left
end

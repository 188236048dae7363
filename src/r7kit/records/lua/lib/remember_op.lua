-- Remembers an applied operation with the version it made; the oldest go when there are too many.
local function remember_op(ops, op, ver)
  redis.call('ZADD', ops, ver, op)
  redis.call('ZREMRANGEBYRANK', ops, 0, -501)
end

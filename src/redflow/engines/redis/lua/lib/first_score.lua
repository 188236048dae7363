-- The lowest score of a sorted set; '' if it is empty.
local function first_score(key)
  return redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2] or ''
end

-- verb: note_lock
-- purpose: write down what the lock of a mutex answered a claimed run: it holds it, or gives its claim back and stands in line
-- keys: 1 base
-- args: now, id, fence, token, first, mutex, number, granted
-- replies: held | mutex_wait (the claim is taken back) | canceled (a cancel request came first) | stale | gone | settled
-- Of a prefix of several shards. number: of the run's place at the lock. first = '1': nothing of the run was ever executed.
-- A grant that overtook this call (mg, see receive_entries) makes the run ready at once.
-- include: server_now
-- include: owned_run
-- include: unclaim_run
-- include: leave_mutex
-- include: leave_throttle
-- include: enqueue_run
local base, now, id = KEYS[1], server_now(ARGV[1]), ARGV[2]
local key, first, mutex, number = base .. 'run:' .. id, ARGV[5] == '1', ARGV[6], ARGV[7]

redis.call('ZREM', base .. 'leases', '') -- starts with a removal, so that a full Redis still drains
local run, reason = owned_run(base, id, ARGV[3], ARGV[4])
if not run then return reason end
if run.cancel then return 'canceled' end
if run.mutex and run.mutex ~= mutex then leave_mutex(base, id, run.mutex, now) end
local early = redis.call('HGET', key, 'mg') == number
redis.call('HSET', key, 'mk', mutex, 'mn', number)
redis.call('HDEL', key, 'mg')
if ARGV[8] == '1' then return 'held' end
if run.line then leave_throttle(base, id, run.line, now) end
unclaim_run(base, id, run, 'queued', first and not redis.call('HGET', key, 'ad'))
if early then enqueue_run(base, id, run.queue, true) end
return 'mutex_wait'

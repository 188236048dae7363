-- verb: pass_bell
-- purpose: a worker that was rung but has no free slot rings the next idle one
-- keys: 1 base
-- args: worker
-- item: queue
-- replies: ok
-- include: pass_bells
pass_bells(KEYS[1], ARGV[1], { unpack(ARGV, 2) })
return 'ok'

"""THE data model: every key and every field of the Redis engine, in one place.

All keys of a prefix share one hash tag, `<prefix>:{<h>.0}:`, h a hash of the prefix: a script stays on one node of a
Redis Cluster, and an ACL of `~<prefix>*` covers everything. The base itself, which scripts declare as their only key,
is never written: that is why a node that hands our slot over refuses them whole. A prefix that is spread over N shards
has a base for each, `<prefix>:{<h>.<k>/<N>}:`, k the shard; all have the keys below, scripts read k and N from it.

====================  ======  =====================================================================================
key                   type    content
====================  ======  =====================================================================================
run:<id>              hash    the record of a run, fields below; removed by retention
big:<id>              hash    payloads over 32 KiB of that run, by the same field names
waiters:<id>          set     clients that want to hear the run's end; TTL
idem:<n>:<wf>:<key>   string  run id that holds the idempotency key (n = bytes of wf); TTL
idx:<status>:<wf>     zset    run ids by creation time, one set per status and workflow
ready:<queue>         zset    runs that can start, in order: seq less 2^45 x priority; before all, interrupted ones
suspects:<queue>      zset    such whose holders died twice, while each worker that met them held one of these
due                   zset    scheduled runs by the time they become ready
timeouts              zset    runs that have started and have a time-out, by the time it passes
leases                zset    running runs by the end of their lease
line:<n>:<queue>:<wf> zset    runs in line for a slot of their workflow (n = bytes of queue)
lined:<wf>, lined     set     queues that have such a line; workflows that have one
stray:<n>:<queue>:<wf> zset   runs whose workflow the worker that met them did not know
strays                zset    such lines, by the time of the first stray
parked:<wf>           zset    runs of a workflow that nobody registered yet
expiry:<retention>    list    finished runs in order of their end, one list per retention (ms)
retentions, workflows set     retentions in use; workflows that have runs
meta:<wf>             hash    metadata of a workflow
metas                 set     names of the registered workflows
worker:<w>, knows:<w> hash    a live worker, its last claim, its drain; the workflows it can run; TTL
workers               zset    live workers by the time they count as dead
idle:<queue>          set     workers that wait for a bell; TTL
paused                hash    what is paused: `q:<queue>`, `w:<workflow>`, each `<since ms> <reason>`
queues                zset    queues that runs were sent to and that no metadata names, by the last time: 10,000 at
                              most, and none when no run is left
mutex:<key>           string  run that holds the mutex, or to which it was granted
mutexline:<key>       zset    runs in line for it, by creation (resumed ones by the time they came back)
grants                zset    runs that were granted a mutex and have not taken it up, by the time it may pass on
rate:<n>:<wf>:<key>   hash    window of a rate limit (n = bytes of wf): e end, n admitted; TTL
throttle:<n>:<wf>:<key> hash  window of a throttle: e, n, l limit, g granted; TTL unless a run stands in line
throttleline:<n>:<wf>:<key> zset  runs in line for it, by creation
throttled             zset    such lines, by the time they move on
debounce:<n>:<wf>:<n>:<queue>:<key> string  run that waits for later inputs
handed:<id>           string  run that took over the input of an order with this id, debounced; TTL
kids:<id>             set     children of a run that are not purged yet, and that no cancel of it has reached
reached:<id>          set     those that one has reached
awaiters:<id>         set     `<parent> <field>` of the steps that wait for this run
cascade               hash    canceled runs whose children are to follow, and the reason those get
event:<id>            hash    the record of an event; `d:<trigger>` its delivery to one subscriber
resumed:<id>          set     runs that the event woke
eidx:<status>:<name>  zset    events by time, one set per fan-out status and name
event_names           set     names with history
evkey:<n>:<name>:<key> string  event that holds the idempotency key (n = bytes of name); TTL
latest:<n>:<name>:<key> string  newest event of a name and correlation key
waiting:<n>:<name>:<key> zset  `<run> <field>` of the steps that wait for such an event, by their deadline; TTL
outbox                zset    events whose fan-out is not complete, by the time somebody may carry it on
subs:<name>, subscribed hash  triggers of an event and their workflows; set of the events with subscribers
contract:<name>       string  canonical JSON Schema of an event's data, `-` for none
eexpiry:<retention>   list    ended events in order of their end, one list per retention (ms)
eretentions, eseq     set     retentions in use; counter (a string): order of the events
cron:<trigger>        hash    a cron trigger: w workflow, e expression, z time zone, i input, id of the user, n next,
                              ft/fr last tick fired and its run, sc/st ticks skipped and the last, mc/mt same of missed,
                              pa `<since ms> <reason>` while it is paused
crons                 zset    cron triggers by their next time
durable               string  what is written right before a wait for a replica or the disk; TTL
doctor                any     what try_commands tries commands on; gone when the script ends
seq, epoch            string  counters: order within a priority; heartbeats
turn:<duty>           string  a worker has just taken a chunk of a mass of work (promote, purge); TTL
shards                string  at `<prefix>:{<h>.0}:` of a prefix of several shards, and nothing else there: how many;
                              on a Cluster a copy at the base of shard 0
outgoing              zset    entries for other shards, `<kind> <source> <target> <rest>`, by the time somebody may take
                              them (see take_outgoing, receive_entries); this and all below: of several shards only
outgoing_data         hash    what some entries say besides
carriers              zset    workers that bring them away, by the time they count as gone
got:<n>:<name>:<key>  hash    number of the newest event of that place that was sent to a run of another shard; TTL
lock:<key>            hash    a mutex, on the shard of its key: o owner, n number of that grant, q the owner's queue
lockline:<key>        zset    runs in line for it, as in mutexline
lockplaces:<key>      hash    `<number> <queue>` of each of these
locks                 zset    keys of locks by the time somebody is to look whether their owner still holds them
lockgrants            zset    `<run> <key>` of runs to which a lock was passed and that have not taken it up
lockseq               string  counter: numbers of grants and of places in line
client:<c>, worker:<w>, timers  channels, not keys: ends of runs; bells and cancels; earliest due time
====================  ======  =====================================================================================

Fields of a run's record (missing means the default):
w workflow, q queue, s status, i input, o output, e error, z failure decided but not yet final, a attempts started
(0), m max attempts, c created, t first start, b start of this attempt (= t), f finished, d available at, n fence
(claims so far), k token of the lease, x deaths of holders in a row, r the next claim goes on with the attempt,
u parked, pr priority (0), to time-out (ms), ta when that passes, cr/cw/co cancel requested at/why/by which call, p
parent run id, dp depth below the run that no step started (0), ad last attempt that was admitted (the run has paid
budget), mk mutex it holds, was granted or stands in line for, tl throttle it stands in line for, tg that granted it,
dk its debounce, dd the deadline of that, di `<ms> <id>` when its input was handed in and with which run (c and
itself), mi run it was merged into, rf run that it is run again, ro/rb/rx of a run that was retried: by which call, its
attempts before the first retry, entries of it in `expiry` that stand for ends which a retry has undone, `v:<place>` the
last event that a wait of this name and key got, `s:<name>` a step (redflow.domain.step), `a:<n>` trace of failed
attempt n: `<finished ms> <json>`.
Of several shards: og entries of this run on their way, mn number of its place at the lock mk, mg one that was granted
before the run stood in line, `w:<child>:<step>`, `w:<step>` the end or event that came before its step was written.

A run that has ended may have its record packed: payloads (i, o, e, s:, a:, v:) of which name or value is over 64 bytes
are then not under their names but in the text that fields `0`, `1`, `2` ... hold, 64 bytes each. It has, for each,
`<bytes of name> <bytes of value> <name><value>`, or `<bytes of name> <bytes of value>@<first byte> <name>` for a value
that is a part of the text already. See pack_record.lua, and packing.py, which reads both forms.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


def prefix_tag(prefix: str) -> str:
    """The part of the hash tag that stands for the prefix: six hex digits."""
    return hashlib.sha256(prefix.encode()).hexdigest()[:6]


@dataclass(frozen=True, slots=True)
class Keys:
    """Names of keys and channels below one base."""

    base: str

    @classmethod
    def of(cls, prefix: str, shard: int = 0, shards: int = 1) -> Keys:
        """The keys of a prefix on one of its shards; a trailing colon of the prefix means nothing."""
        plain = prefix.rstrip(":")
        place = f"{shard}/{shards}" if shards > 1 else "0"
        return cls(f"{plain}{':' if plain else ''}{{{prefix_tag(plain)}.{place}}}:")

    @property
    def shard(self) -> int:
        """Which shard these are of."""
        place = self.base.rpartition(".")[2].partition("}")[0]
        return int(place.partition("/")[0])

    def run(self, run_id: str) -> str:
        """Record of a run."""
        return f"{self.base}run:{run_id}"

    def big(self, run_id: str) -> str:
        """Large payloads of a run."""
        return f"{self.base}big:{run_id}"

    def waiters(self, run_id: str) -> str:
        """Clients that wait for a run."""
        return f"{self.base}waiters:{run_id}"

    def children(self, run_id: str) -> tuple[str, str]:
        """The two sets that hold a run's children between them."""
        return f"{self.base}kids:{run_id}", f"{self.base}reached:{run_id}"

    def meta(self, workflow: str) -> str:
        """Metadata of a workflow."""
        return f"{self.base}meta:{workflow}"

    def cron(self, trigger: str) -> str:
        """A cron trigger."""
        return f"{self.base}cron:{trigger}"

    @property
    def metas(self) -> str:
        """Names of the registered workflows."""
        return f"{self.base}metas"

    @property
    def workflows(self) -> str:
        """Names of all workflows that have runs."""
        return f"{self.base}workflows"

    @property
    def strays(self) -> str:
        """Lines of runs that no worker which met them knew."""
        return f"{self.base}strays"

    def index(self, status: str, workflow: str) -> str:
        """Run ids of one status and workflow by creation time."""
        return f"{self.base}idx:{status}:{workflow}"

    def client_channel(self, client: str) -> str:
        """Where a client hears of ended runs."""
        return f"{self.base}client:{client}"

    def worker_channel(self, worker: str) -> str:
        """Where a worker hears its bell and cancel requests."""
        return f"{self.base}worker:{worker}"

    @property
    def durable(self) -> str:
        """What is written right before a wait for a replica or the disk."""
        return f"{self.base}durable"

    @property
    def throttled(self) -> str:
        """Lines of throttles by the time they move on."""
        return f"{self.base}throttled"

    @property
    def paused(self) -> str:
        """Paused queues and workflows."""
        return f"{self.base}paused"

    def turn(self, duty: str) -> str:
        """The mark that a worker has just taken a chunk of a mass of work."""
        return f"{self.base}turn:{duty}"

    @property
    def shards(self) -> str:
        """How many shards the prefix has, at the base of a prefix with one."""
        return f"{self.base}shards"

    @property
    def timers_channel(self) -> str:
        """Where promoters hear of an earlier due time."""
        return f"{self.base}timers"

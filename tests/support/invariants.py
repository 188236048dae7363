"""What holds for everything under a prefix, at every instant: the data model's own bookkeeping, told as rules.

Any test may end with `await invariants(prefix)`; it reads the keys themselves and trusts no code of the engine.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from redflow.domain.run import NEW, TRANSITIONS
from redflow.engines.redis.connection import Connection
from redflow.engines.redis.keys import Keys
from redflow.engines.redis.queries import Queries
from redflow.types import TERMINAL_STATUSES
from tests.support.invariants_admission import admission_faults
from tests.support.keyspace import Snapshot, family_of, read_snapshot

TERMINAL: Final = frozenset(TERMINAL_STATUSES)
STATUSES: Final = frozenset(TRANSITIONS) - {NEW}
_NEEDED: Final = ("w", "q", "s", "c", "m", "i")
_PLACES: Final = ("ready:", "suspects:", "line:", "stray:", "parked:", "mutexline:", "throttleline:")
_LINE: Final = re.compile(r"(line|stray):(\d+):(.*)", re.DOTALL)


async def check_invariants(
    connection: Connection, prefix: str, *, lowered: Collection[str] = (), shard: int = 0, shards: int = 1
) -> None:
    """Fail with every rule that the keys under a prefix break.

    Args:
        connection: to the server.
        prefix: whose keys are looked at.
        lowered: workflows whose max_concurrency was lowered while more of their runs were running.
        shard: which one is looked at.
        shards: of how many.

    Raises:
        AssertionError: naming each rule, key and run.
    """
    broken = await violations(connection, prefix, lowered=lowered, shard=shard, shards=shards)
    if broken:
        raise AssertionError(f"{len(broken)} invariants are broken under {prefix!r}:\n  " + "\n  ".join(broken))


async def violations(
    connection: Connection, prefix: str, *, lowered: Collection[str] = (), shard: int = 0, shards: int = 1
) -> list[str]:
    """The rules that the keys under a prefix break, one line each; [] if none."""
    broken = faults_in(await read_snapshot(connection, prefix, shard, shards), lowered=lowered)
    miscount = await _miscount(connection, prefix, shard, shards)
    return [*broken, miscount] if miscount else broken


async def _miscount(connection: Connection, prefix: str, shard: int, shards: int) -> str:
    """How get_stats() differs from the records; "" if it does not.

    While workers work, the two are not of one instant: only what differs each time, with the counts at rest around it,
    is wrong.
    """
    queries, told = Queries(connection, Keys.of(prefix, shard, shards)), ""
    for _ in range(5):
        before = await queries.stats()
        snapshot = await read_snapshot(connection, prefix, shard, shards)
        at_rest = await queries.stats() == before
        counted = Counter(snapshot.hash(f"run:{run_id}").get("s", "?") for run_id in snapshot.names("run:"))
        if not at_rest or before["by_status"] == {status: counted[status] for status in before["by_status"]}:
            return ""
        told = f"get_stats() says {before['by_status']}, the records say {dict(counted)}"
    return told


def faults_in(snapshot: Snapshot, *, lowered: Collection[str] = ()) -> list[str]:
    """The rules that a snapshot breaks; all but that get_stats() agrees with the records."""
    return [*_World(snapshot, frozenset(lowered)).check()]


class _World:
    """The keys of a prefix, and where each run stands."""

    def __init__(self, snapshot: Snapshot, lowered: frozenset[str]) -> None:
        self.keys = snapshot
        self.lowered = lowered
        self.runs: Mapping[str, dict[str, str]] = {
            run_id: snapshot.hash(f"run:{run_id}") for run_id in snapshot.names("run:")
        }
        self.places: dict[str, list[str]] = defaultdict(list)
        """Run id -> the keys of sorted sets (but the indexes) that hold it."""
        for name in snapshot.entries:
            if name in ("due", "leases") or name.startswith(_PLACES):
                for run_id in snapshot.zset(name):
                    self.places[run_id].append(name)
        self.expiries = Counter(
            (run_id, name) for name in snapshot.names("expiry:") for run_id in snapshot.members(f"expiry:{name}")
        )

    def check(self) -> Iterator[str]:
        """Every rule that is broken."""
        yield from self._check_keys()
        yield from self._check_companions()
        yield from self._check_indexes()
        yield from self._check_orphans()
        yield from self._check_concurrency()
        yield from admission_faults(self.keys, self.runs)
        for run_id, run in self.runs.items():
            for fault in self._check_run(run_id, run):
                yield f"run {run_id}: {fault}"

    # -- keys ---------------------------------------------------------------------------------------------------

    def _check_keys(self) -> Iterator[str]:
        """Every key is one of the data model, of its type, and has a TTL exactly if it must."""
        for name in self.keys.outside:
            yield f"key {name!r} stands outside of the base"
        for name, entry in self.keys.entries.items():
            family = family_of(name)
            if family is None:
                yield f"key {name!r} is none of the data model"
            elif entry.kind != family.kind:
                yield f"key {name!r} is a {entry.kind} and should be a {family.kind}"
            elif family.expires and entry.ttl_ms is None:
                yield f"key {name!r} has no TTL"
            elif family.expires is False and entry.ttl_ms is not None:
                yield f"key {name!r} has a TTL of {entry.ttl_ms} ms and should stay"

    def _check_companions(self) -> Iterator[str]:
        """Keys that tell of other keys tell of exactly those that are there."""
        keys = self.keys
        lines: dict[str, set[str]] = defaultdict(set)
        strays: set[str] = set()
        for name in keys.entries:
            if match := _LINE.fullmatch(name):
                queue, workflow = _split(match[2], match[3])
                if match[1] == "line":
                    lines[workflow].add(queue)
                else:
                    strays.add(f"{match[2]}:{match[3]}")
        for workflow in lines.keys() | set(keys.names("lined:")):
            yield from _differ(f"lined:{workflow}", keys.members(f"lined:{workflow}"), lines.get(workflow, set()))
        yield from _differ("lined", keys.members("lined"), lines)
        yield from _differ("strays", keys.zset("strays"), strays)
        yield from _differ("retentions", keys.members("retentions"), keys.names("expiry:"))
        yield from _differ(
            "crons", keys.zset("crons"), [t for t in keys.names("cron:") if fires(keys.hash(f"cron:{t}"))]
        )
        told = [t for workflow in keys.names("meta:") for t in keys.hash(f"meta:{workflow}").get("crons", "").split()]
        yield from _differ("cron:", keys.names("cron:"), told)
        for trigger, at in keys.zset("crons").items():
            if float(keys.hash(f"cron:{trigger}").get("n") or "nan") != at:
                yield f"cron:{trigger} is due at {keys.hash(f'cron:{trigger}').get('n')}, crons says {at}"
        yield from _differ("metas", keys.members("metas"), keys.names("meta:"))
        for worker in set(keys.names("worker:")) - set(keys.names("knows:")):
            yield f"worker:{worker} has no knows:{worker}"
        yield from _differ("workflows", keys.members("workflows"), {run.get("w", "?") for run in self.runs.values()})

    def _check_indexes(self) -> Iterator[str]:
        """The index sets say exactly what a scan of the records says."""
        told: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
        for run_id, run in self.runs.items():
            told[run.get("s", "?"), run.get("w", "?")][run_id] = float(run.get("c", "nan"))
        stored: dict[tuple[str, str], dict[str, float]] = {}
        for rest in self.keys.names("idx:"):
            status, _, workflow = rest.partition(":")
            stored[status, workflow] = self.keys.zset(f"idx:{rest}")
        for status, workflow in sorted(told.keys() | stored.keys()):
            listed, true = stored.get((status, workflow), {}), told.get((status, workflow), {})
            if listed != true:
                yield f"idx:{status}:{workflow} has {listed}, the records say {true}"

    def _check_orphans(self) -> Iterator[str]:
        """Nothing is kept for a run that is gone, and nothing lists one."""
        for run_id in self.keys.names("big:"):
            if run_id not in self.runs:
                yield f"big:{run_id} has no run"
        for run_id in self.keys.zset("timeouts"):
            if run_id not in self.runs:
                yield f"timeouts: run {run_id!r} is gone"
        for run_id, names in self.places.items():
            if run_id not in self.runs:
                yield f"{', '.join(names)}: run {run_id!r} is gone"
        for (run_id, retention), times in self.expiries.items():
            if run_id not in self.runs:
                yield f"expiry:{retention}: run {run_id!r} is gone"
            elif times > 1 + int(self.runs[run_id].get("rx", "0")):
                yield f"expiry:{retention}: run {run_id!r} stands there {times} times"
        for retention in self.keys.names("expiry:"):
            listed = [run_id for run_id in self.keys.members(f"expiry:{retention}") if not self._was_retried(run_id)]
            ends = [int(self.runs.get(run_id, {}).get("f", "0")) for run_id in listed]
            if ends != sorted(ends):
                yield f"expiry:{retention} is not in the order of finishing: {ends}"

    def _was_retried(self, run_id: str) -> bool:
        """Whether it stands in lists of retentions for ends that were undone."""
        return int(self.runs.get(run_id, {}).get("rx", "0")) > 0

    def _check_concurrency(self) -> Iterator[str]:
        for workflow in self.keys.members("metas"):
            limit = self.keys.hash(f"meta:{workflow}").get("max_concurrency")
            running = len(self.keys.zset(f"idx:running:{workflow}"))
            if limit is not None and running > int(limit) and workflow not in self.lowered:
                yield f"workflow {workflow!r}: {running} runs are running, max_concurrency is {limit}"

    # -- runs ---------------------------------------------------------------------------------------------------

    def _check_run(self, run_id: str, run: dict[str, str]) -> Iterator[str]:
        missing = [field for field in _NEEDED if field not in run]
        if missing:
            yield f"the record lacks {', '.join(missing)}"
            return
        if run["s"] not in STATUSES:
            yield f"status {run['s']!r} is none"
            return
        yield from self._check_place(run_id, run)
        yield from self._check_fields(run)
        yield from self._check_timeout(run_id, run)
        yield from self._check_apart(run_id, run)
        yield from self._check_packed(run_id, run)
        lists = sorted(retention for listed, retention in self.expiries.elements() if listed == run_id)
        if len(lists) != (1 if run["s"] in TERMINAL else 0) + int(run.get("rx", "0")):
            yield f"is {run['s']} and stands in the expiry lists {lists}"

    def _check_place(self, run_id: str, run: dict[str, str]) -> Iterator[str]:
        """A run stands where its status says, and nowhere else."""
        workflow, queue = run["w"], run["q"]
        line = f"{len(queue.encode())}:{queue}:{workflow}"
        waiting = {f"ready:{queue}", f"stray:{line}"}
        suspects = {f"suspects:{queue}"} if run.get("x") == "2" else set[str]()
        allowed = {
            "scheduled": {f"throttleline:{run['tl']}"} if "tl" in run else {"due"} if "d" in run else set[str](),
            "queued": {f"parked:{workflow}"}
            if "u" in run
            else waiting | {f"line:{line}", f"mutexline:{run.get('mk')}"},
            "running": {"leases"} if "k" in run else waiting | suspects,
        }.get(run["s"], set())
        if self.keys.sharded and run["s"] == "queued" and "mk" in run and not self.places[run_id]:
            return  # in the line of a lock, wherever that is
        places = self.places[run_id]
        if len(places) != min(1, len(allowed)) or not allowed.issuperset(places):
            where = " or ".join(sorted(allowed)) or "nowhere"
            yield f"is {run['s']} and stands in {sorted(places)}, should stand in {where}"
        due = self.keys.zset("due").get(run_id)
        if run["s"] == "scheduled" and "tl" not in run and "d" in run and due != float(run["d"]):
            yield f"is due at {self.keys.zset('due').get(run_id)}, its record says {run.get('d')}"

    def _check_fields(self, run: dict[str, str]) -> Iterator[str]:
        """A status brings its fields, and leaves those of others behind."""
        status = run["s"]
        needed = {
            "scheduled": "" if "r" in run else "d",
            "running": "a t n",
            "succeeded": "f o",
            "failed": "f e",
            "canceled": "f cr",
        }
        barred = {
            "scheduled": "x f o z",
            "queued": "d f o" if "ta" in run else "d f o z",  # timed out, on its way to its on_failure
            "running": "d r f o u",
            "succeeded": "d r x z u e",
            "failed": "d r x z u o",
            "canceled": "d r x z u e o",
        }
        without = [field for field in needed.get(status, "").split() if field not in run]
        if status == "canceled" and "k" in run:
            without = [field for field in without if field != "cr"]  # its handler raised CanceledError
        if without:
            yield f"is {status} without {', '.join(without)}"
        left = [field for field in barred[status].split() if field in run]
        if left:
            yield f"is {status} and has {', '.join(left)} left"
        attempts = int(run.get("a", "0"))
        if "x" in run and not 1 <= int(run["x"]) <= 2:
            yield f"has {run['x']} deaths in a row"
        for field in run:
            if field.startswith("a:") and not 1 <= int(field[2:]) <= attempts:
                yield f"has a trace {field} and {attempts} attempts"

    def _check_timeout(self, run_id: str, run: dict[str, str]) -> Iterator[str]:
        """A run that has started and may time out stands among those that do, at its time."""
        ends, stands = run.get("ta"), self.keys.zset("timeouts").get(run_id)
        if stands is not None and (run["s"] in TERMINAL or ends is None or float(ends) != stands):
            yield f"is {run['s']}, times out at {ends}, and stands in timeouts at {stands}"
        elif stands is None and ends is not None and not ("z" in run or "cr" in run or run["s"] in TERMINAL):
            yield f"is {run['s']}, times out at {ends}, and is missing in timeouts"

    def _check_packed(self, run_id: str, run: dict[str, str]) -> Iterator[str]:
        """The record of an ended run is packed exactly if it has long payloads, and only such, that fit."""
        stored = {name: value.encode("utf-8", "surrogateescape") for name, value in run.items()}
        long = {name: value for name, value in stored.items() if max(len(name.encode()), len(value)) > 64}
        text = b"".join(
            b"%d %d %s%s" % (len(name.encode()), len(value), name.encode(), value)
            for name, value in sorted(long.items(), key=lambda item: item[0] == "o")
            if name != "o" or value not in b"".join(long[other] for other in long if other != "o")
        )
        packable = bool(long) and len(text) <= 2048
        packable &= all(name in ("i", "o", "e") or name[:2] in ("s:", "a:", "v:") for name in long)
        packed = run_id in self.keys.packed
        if packed != (packable and run["s"] in TERMINAL):
            yield f"is {run['s']}, has the long fields {[*long]} and is {'' if packed else 'not '}packed"

    def _check_apart(self, run_id: str, run: dict[str, str]) -> Iterator[str]:
        """What the record says is stored apart is there."""
        apart = self.keys.hash(f"big:{run_id}")
        for field, value in run.items():
            mark = value == "@" if field in "ioez" else field.startswith(("s:", "a:")) and value.endswith(" @")
            if mark and field not in apart:
                yield f"{field} is stored apart, and big:{run_id} lacks it"


def fires(cron: Mapping[str, str]) -> bool:
    """Whether a cron trigger waits for a time."""
    return bool(cron["n"]) and "pa" not in cron


def _split(length: str, rest: str) -> tuple[str, str]:
    """Queue and workflow of a line's key; the length counts bytes."""
    raw, size = rest.encode("utf-8", "surrogateescape"), int(length)
    return raw[:size].decode("utf-8", "replace"), raw[size + 1 :].decode("utf-8", "replace")


def _differ(name: str, listed: Collection[str], true: Collection[str]) -> Iterator[str]:
    if set(listed) != set(true):
        yield f"{name} tells of {sorted(listed)}, there are {sorted(true)}"

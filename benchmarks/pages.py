"""What a page costs out of 1,000 runs and out of 1,000,000: list_runs and search_runs, by each of their filters.

Both histories lie on one server under two prefixes, and the same questions are put to them in turn. The runs are made
by the engine's own scripts, create_runs, claim_runs and settle_runs, in batches and without handlers: six in ten
succeeded, one in ten each failed, was canceled, is queued and is scheduled. The oldest 60 have a parent.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final

from benchmarks.bench import Bench, Benchmark, main
from benchmarks.counting import used_memory
from benchmarks.harness import BenchmarkError, Settings
from benchmarks.workflows import APP
from redflow import (
    ListRunsParams,
    RedflowClient,
    SearchRunsParams,
    WorkflowHandlerContext,
    WorkflowRegistry,
    define_workflow,
)
from redflow._ids import next_run_id
from redflow.domain.orders import build_order
from redflow.domain.run import RunOrder, public_run_id
from redflow.engines.redis.keys import Keys
from redflow.engines.redis.loops.registrar import REGISTER_WORKER
from redflow.engines.redis.runs import SERVER_TIME, RunScripts, Settlement
from redflow.types import ALL_STATUSES, JsonData

SMALL: Final = 1_000
CHILDREN: Final = 60
PAGE: Final = 50
_BATCH: Final = 100
_SIDE_BY_SIDE: Final = 4
_OUTCOMES: Final = ("succeeded",) * 6 + ("failed", "canceled", "queued", "scheduled")
_PAYLOADS: Final = {"succeeded": b'{"done":true}', "failed": b'{"name":"ValueError","message":"no","kind":"error"}'}
_HOUR_MS: Final = 3_600_000
_WARM_UP: Final = 5

REGISTRY: Final = WorkflowRegistry()


async def _handler(ctx: WorkflowHandlerContext[JsonData]) -> None:
    """Never called: what is measured are records."""


COMMON: Final = define_workflow("common", handler=_handler, queue="busy", registry=REGISTRY)
RARE: Final = define_workflow("rare", handler=_handler, queue="busy", registry=REGISTRY)


@dataclass(frozen=True, slots=True)
class History:
    """A prefix full of runs.

    Attributes:
        client: of the prefix.
        ids: public ids of the runs, oldest first.
        parent: public id of the run that the oldest are children of.
        created: time of the run in the middle, epoch ms.
    """

    client: RedflowClient
    ids: list[str]
    parent: str
    created: int


Question = Callable[[History], Awaitable[int]]
"""Asks a history for a page and says how many runs it held."""


async def measure(bench: Bench) -> None:
    """A history of SMALL runs, one of `n`, and each question `seconds` times to both; what counts is its median."""
    memory = await used_memory(bench.redis)
    async with bench.world(REGISTRY) as small_client, bench.world(REGISTRY) as large_client:
        small = await fill(small_client, SMALL)
        started = time.perf_counter()
        large = await fill(large_client, bench.settings.n)
        bench.figures.add("filling", time.perf_counter() - started, "s")
        bench.figures.add("memory", (await used_memory(bench.redis) - memory) / 2**20, "MiB")
        ratios: dict[str, list[float]] = {name: [] for name in QUESTIONS}
        for _ in range(bench.settings.reps):
            for name, asked in QUESTIONS.items():
                ratios[name].append(await _compare(bench, name, asked, small, large))
            for name, asked in SCANS.items():
                await _compare(bench, name, asked, small, large, full=False)
    bench.figures.add("dearest of all", max(map(statistics.median, ratios.values())), "times small")
    bench.figures.note("Scans have no index: they look at 10,000 runs at most and then say how to go on.")


async def _compare(
    bench: Bench, name: str, question: Question, small: History, large: History, *, full: bool = True
) -> float:
    times: dict[str, list[float]] = {"small": [], "large": []}
    rows: dict[str, set[int]] = {"small": set(), "large": set()}
    for turn in range(int(bench.settings.seconds) + _WARM_UP):
        for size, history in (("small", small), ("large", large)):
            started = time.perf_counter()
            rows[size].add(await question(history))
            if turn >= _WARM_UP:
                times[size].append((time.perf_counter() - started) * 1000)
    if full and (rows["small"] != rows["large"] or rows["small"] != {PAGE}):
        raise BenchmarkError(f"{name}: pages of {rows['small']} runs out of few, of {rows['large']} out of many")
    medians = {size: statistics.median(values) for size, values in times.items()}
    bench.figures.add(f"{name}: small", medians["small"], "ms")
    bench.figures.add(f"{name}: large", medians["large"], "ms")
    ratio = medians["large"] / medians["small"]
    bench.figures.add(f"{name}: large beside small", ratio, "times small")
    return ratio


# --- the questions --------------------------------------------------------------------------------------------------


def _listing(params: ListRunsParams) -> Question:
    async def ask(history: History) -> int:
        return len(await history.client.list_runs(params))

    return ask


def _search(params: SearchRunsParams) -> Question:
    async def ask(history: History) -> int:
        return len((await history.client.search_runs(params))["runs"])

    return ask


async def _after_the_middle(history: History) -> int:
    cursor = history.ids[len(history.ids) // 2]
    return len(await history.client.list_runs(ListRunsParams(cursor=cursor)))


async def _after_a_time(history: History) -> int:
    return len(await history.client.list_runs(ListRunsParams(cursor=history.created)))


async def _search_since(history: History) -> int:
    found = await history.client.search_runs(SearchRunsParams(created_after=history.created, sort="asc"))
    return len(found["runs"])


async def _search_until(history: History) -> int:
    return len((await history.client.search_runs(SearchRunsParams(created_before=history.created)))["runs"])


async def _search_children(history: History) -> int:
    return len((await history.client.search_runs(SearchRunsParams(parent_run_id=history.parent)))["runs"])


QUESTIONS: Final[dict[str, Question]] = {
    "list": _listing(ListRunsParams()),
    "list, oldest first": _listing(ListRunsParams(sort="asc")),
    **{f"list {s}": _listing(ListRunsParams(status=s)) for s in ALL_STATUSES if s != "running"},
    "list a workflow": _listing(ListRunsParams(workflow=COMMON.name)),
    "list a rare workflow": _listing(ListRunsParams(workflow=RARE.name)),
    "list failed of a workflow": _listing(ListRunsParams(status="failed", workflow=COMMON.name)),
    "list after a run": _after_the_middle,
    "list after a time": _after_a_time,
    "search": _search(SearchRunsParams()),
    "search failed": _search(SearchRunsParams(status="failed")),
    "search a rare workflow": _search(SearchRunsParams(workflow=RARE.name)),
    "search failed of a workflow": _search(SearchRunsParams(status="failed", workflow=COMMON.name)),
    "search a queue": _search(SearchRunsParams(queue=f"{APP}:resting")),
    "search since": _search_since,
    "search until": _search_until,
    "search the oldest children": _search_children,
}

SCANS: Final[dict[str, Question]] = {"scan for a queue without runs": _search(SearchRunsParams(queue="nowhere"))}
"""Questions that no index answers."""


# --- filling --------------------------------------------------------------------------------------------------------


async def fill(client: RedflowClient, n: int) -> History:
    """Make `n` runs of every outcome."""
    scripts = RunScripts(client.connection, Keys.of(client.prefix), client.run_history_retention_ms)
    parent = await client.emit_workflow(RARE.name, None)
    numbers = iter(range(0, n, _BATCH))
    ids: dict[int, list[str]] = {}

    async def creator() -> None:
        for start in numbers:
            orders = [_order(number, parent.id) for number in range(start, min(start + _BATCH, n))]
            ids[start] = [public_run_id(run_id) for _, run_id in await scripts.create(orders, APP)]

    async def finisher(worker: str) -> None:
        names = [COMMON.name, RARE.name]
        await client.connection.call(
            REGISTER_WORKER, scripts.keys.base, [SERVER_TIME, worker, _HOUR_MS, APP, "{}", "", *names]
        )
        count = 0
        while await _finish_some(scripts, worker, f"{worker}.{count}"):
            count += 1

    await creator()  # the oldest first: the order of the ids is that of the creation
    await asyncio.gather(*[finisher(f"loader{number}") for number in range(_SIDE_BY_SIDE)])
    in_order = [run_id for start in sorted(ids) for run_id in ids[start]]
    middle = await client.get_run(in_order[n // 2])
    if middle is None:
        raise BenchmarkError("a run is lost")
    return History(client, in_order, parent.id, middle["created_at"])


def _order(number: int, parent: str) -> RunOrder:
    outcome = _OUTCOMES[number % len(_OUTCOMES)]
    now_ms = int(time.time() * 1000)
    order = build_order(
        next_run_id(now_ms),
        RARE.name if number // len(_OUTCOMES) % 5 == 0 else COMMON.name,
        {"outcome": outcome},
        now_ms=now_ms,
        queue="resting" if outcome == "queued" else None,
        parent_run_id=parent if number < CHILDREN else None,
    )
    return replace(order, run_at_ms=now_ms + 24 * _HOUR_MS) if outcome == "scheduled" else order


async def _finish_some(scripts: RunScripts, worker: str, token: str) -> int:
    """Claim a batch and settle it, each run as its input says; how many there were."""
    queues = [f"{APP}:busy"]
    claim = await scripts.claim(worker, token, _HOUR_MS, _BATCH, queues)
    if claim is None:
        raise BenchmarkError("the loader is not registered")
    items = []
    for run in claim.runs:
        outcome = next((name for name in set(_OUTCOMES) if name.encode() in run.record[b"i"]), "succeeded")
        items.append(Settlement(run.lease, outcome, _PAYLOADS.get(outcome, b""), None, "", b"", ()))
    if items:
        _, refused = await scripts.settle(items, worker, queues, idle=False)
        if refused:
            raise BenchmarkError(f"runs could not be settled: {refused}")
    return len(items)


BENCHMARK: Final = Benchmark(
    name="pages",
    title="a page out of 1,000 runs and out of n",
    measure=measure,
    full=Settings(n=1_000_000, reps=3, seconds=60),
    short=Settings(n=20_000, reps=1, seconds=20),
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))

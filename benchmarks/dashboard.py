"""What a page of the dashboard costs with `n` runs: each screen over HTTP, on a history of every outcome.

The dashboard is served by uvicorn in a process of its own, as `redflow dashboard` serves it; a page is timed by the one
who asks, from the request to the last byte. Of each page the median and the slowest of twenty are told, ten in full
length for each second. The history is that of the benchmark `pages`.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import httpx

from benchmarks.bench import Bench, Benchmark, main
from benchmarks.harness import BenchmarkError, Settings, percentile
from benchmarks.pages import COMMON, REGISTRY, History, fill
from redflow import RedflowClient

LIMIT_MS: Final = 200
SLOWEST: Final = "slowest page, median"
_WARM_UP: Final = 3


async def measure(bench: Bench) -> None:
    """Each page `seconds` times, in turn."""
    async with bench.world(REGISTRY) as client:
        started = time.perf_counter()
        history = await fill(client, bench.settings.n)
        bench.figures.add("filling", time.perf_counter() - started, "s")
        async with _served(bench, client) as url, httpx.AsyncClient(base_url=url, timeout=60) as http:
            for _ in range(bench.settings.reps):
                await _ask_all(bench, http, _pages(history))


def _pages(history: History) -> dict[str, str]:
    middle = history.ids[len(history.ids) // 2]
    return {
        "overview": "/",
        "overview, 7 days": "/?span=7d",
        "runs": "/runs",
        "runs, 200 rows": "/runs?size=200",
        "runs, failed": "/runs?status=failed",
        "runs, a workflow": f"/runs?workflow={COMMON.name}",
        "runs, oldest first": "/runs?sort=asc",
        "runs, after the middle": f"/runs?cursor={middle}",
        "runs, the last hour": "/runs?since=1h",
        "runs, a queue": "/runs?queue=bench:resting",
        "runs, an error": "/runs?error=ValueError",
        "runs, a text": "/runs?q=outcome",
        "runs, a text that none has": "/runs?q=nothing+like+it",
        "run": f"/runs/{middle}",
        "run with children": f"/runs/{history.parent}",
        "workflows": "/workflows",
        "workflow": f"/workflow?name={COMMON.name}",
        "events": "/events",
        "schedules": "/schedules",
        "workers": "/workers",
        "tasks": "/tasks",
        "health": "/health",
    }


async def _ask_all(bench: Bench, http: httpx.AsyncClient, pages: dict[str, str]) -> None:
    medians: list[float] = []
    for name, path in pages.items():
        times: list[float] = []
        for turn in range(max(10, int(bench.settings.seconds)) + _WARM_UP):
            started = time.perf_counter()
            answer = await http.get(path)
            elapsed = (time.perf_counter() - started) * 1000
            if answer.status_code != 200 or "can't be shown" in answer.text:
                raise BenchmarkError(f"{path}: {answer.status_code}")
            if turn >= _WARM_UP:
                times.append(elapsed)
        medians.append(statistics.median(times))
        bench.figures.add(f"{name}: p50", medians[-1], "ms")
        bench.figures.add(f"{name}: p95", percentile(times, 0.95), "ms")
    bench.figures.add(SLOWEST, max(medians), "ms")


@asynccontextmanager
async def _served(bench: Bench, client: RedflowClient) -> AsyncIterator[str]:
    """`redflow dashboard` on the client's prefix; its URL."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "redflow", "dashboard", "--url", bench.url, "--prefix", client.prefix),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async for line in process.stdout:
            if (text := line.decode().strip()).startswith("http://"):
                yield text
                break
        else:
            raise BenchmarkError("the dashboard did not start")
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


BENCHMARK: Final = Benchmark(
    name="dashboard",
    title="a page of the dashboard with n runs",
    measure=measure,
    full=Settings(n=1_000_000, reps=3, seconds=20),
    short=Settings(n=20_000, reps=1, seconds=10),
)

if __name__ == "__main__":
    sys.exit(main(BENCHMARK))

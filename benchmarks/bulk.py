"""Many runs at once, made by the engine's own scripts in batches: queued, due at one instant, or finished long ago.

No handler is called for them and no client method: what is measured with them are records. Filling is not measured.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from benchmarks.harness import BenchmarkError
from benchmarks.workflows import APP
from redflow import RedflowClient
from redflow._ids import next_run_id
from redflow.domain.orders import build_order
from redflow.domain.run import public_run_id
from redflow.engines.redis.keys import Keys
from redflow.engines.redis.loops.registrar import REGISTER_WORKER
from redflow.engines.redis.runs import SERVER_TIME, ClaimedRun, RunScripts, Settlement

BATCH: Final = 100
_SIDE_BY_SIDE: Final = 3
LEASE_MS: Final = 3_600_000
_CALIBRATION: Final = 5_000
_SLACK: Final = 2.0
_SLACK_S: Final = 1.5


def scripts_of(client: RedflowClient, retention_ms: int | None = None) -> RunScripts:
    """The scripts of the client's prefix; what they settle is kept for `retention_ms`, or as the client does."""
    return RunScripts(
        client.connection,
        Keys.of(client.prefix),
        client.run_history_retention_ms if retention_ms is None else retention_ms,
    )


async def create_runs(
    client: RedflowClient, workflow: str, n: int, *, run_at_ms: int | None = None, queue: str | None = None
) -> list[str]:
    """Create `n` runs with the numbers 0 to n - 1 as input; their ids in that order, but not in that of creation."""
    scripts = scripts_of(client)
    starts = iter(range(0, n, BATCH))
    ids: dict[int, list[str]] = {}

    async def creator() -> None:
        for start in starts:
            now_ms = int(time.time() * 1000)
            orders = [
                replace(
                    build_order(next_run_id(now_ms), workflow, {"n": k}, now_ms=now_ms, queue=queue),
                    run_at_ms=run_at_ms,
                )
                for k in range(start, min(start + BATCH, n))
            ]
            ids[start] = [public_run_id(run_id) for _, run_id in await scripts.create(orders, APP)]

    await asyncio.gather(*[creator() for _ in range(_SIDE_BY_SIDE)])
    return [run_id for start in sorted(ids) for run_id in ids[start]]


async def create_due_at_once(client: RedflowClient, workflow: str, n: int, queue: str) -> float:
    """Create `n` runs that all become ready at the same time, some time after the last was created.

    Returns:
        That time, seconds since the epoch.

    Raises:
        BenchmarkError: creating them took longer than the first few had let expect.
    """
    far_ms = int(time.time() * 1000) + LEASE_MS
    few = min(n, _CALIBRATION)
    started = time.monotonic()
    await create_runs(client, workflow, few, run_at_ms=far_ms, queue=queue)
    pace_s = (time.monotonic() - started) / few
    await client.reset_runs()
    at_s = time.time() + pace_s * n * _SLACK + _SLACK_S
    await create_runs(client, workflow, n, run_at_ms=int(at_s * 1000), queue=queue)
    if (late_s := time.time() - at_s) > 0:
        raise BenchmarkError(f"the machine is too busy: the runs were created {late_s:.1f} s too late")
    return at_s


async def finish_runs(client: RedflowClient, workflow: str, n: int, retention_ms: int) -> None:
    """Create `n` runs and let all succeed, without a handler; each is kept for `retention_ms` from its end."""
    await create_runs(client, workflow, n)
    loaders = [await Loader.register(client, workflow, retention_ms) for _ in range(_SIDE_BY_SIDE)]

    async def finish(loader: Loader) -> None:
        while await loader.claim_and_settle(BATCH):
            pass

    await asyncio.gather(*map(finish, loaders))
    ended = (await client.get_stats())["by_status"]["succeeded"]
    if ended != n:
        raise BenchmarkError(f"{ended} of {n} runs have ended")


class Loader:
    """Stands for a worker without being one: claims and settles as it is told."""

    def __init__(self, scripts: RunScripts, worker: str, queue: str) -> None:
        self._scripts = scripts
        self.worker = worker
        self._queues = [queue]
        self._claims = 0

    @classmethod
    async def register(cls, client: RedflowClient, workflow: str, retention_ms: int | None = None) -> Loader:
        """Make a worker known that serves the workflow's queue; what it settles is kept for `retention_ms`."""
        scripts, worker = scripts_of(client, retention_ms), f"loader{secrets.token_hex(4)}"
        await client.connection.call(
            REGISTER_WORKER, scripts.keys.base, [SERVER_TIME, worker, LEASE_MS, APP, "{}", "", workflow]
        )
        meta = await client.get_workflow_meta(workflow)
        if meta is None:
            raise BenchmarkError(f"{workflow} is not registered")
        return cls(scripts, worker, meta["queue"])

    async def claim(self, want: int) -> list[ClaimedRun]:
        """Take up to `want` runs."""
        self._claims += 1
        token = f"{self.worker}.{self._claims:x}"
        claim = await self._scripts.claim(self.worker, token, LEASE_MS, want, self._queues)
        if claim is None:
            raise BenchmarkError("the loader is not registered")
        return claim.runs

    async def settle(self, runs: Sequence[ClaimedRun]) -> None:
        """Let runs succeed."""
        items = [Settlement(run.lease, "succeeded", b'{"n":0}', None, "", b"", ()) for run in runs]
        _, refused = await self._scripts.settle(items, self.worker, self._queues, idle=False)
        if refused:
            raise BenchmarkError(f"runs could not be settled: {refused}")

    async def claim_and_settle(self, want: int) -> int:
        """Both; how many there were."""
        runs = await self.claim(want)
        if runs:
            await self.settle(runs)
        return len(runs)

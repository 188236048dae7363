"""What a forked process of the chaos tests does: be a worker, or be a client."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from redflow import StartWorkerOptions, create_client, start_worker
from redflow.errors import RedflowError
from redflow.registry import WorkflowRegistry, get_default_registry
from tests.chaos.facts import SUBSCRIBERS
from tests.chaos.ledger import Ledger
from tests.chaos.lists import Lists
from tests.chaos.orders import PRIMITIVES, Orders
from tests.chaos.workload import APP, Here, define_all

STALL_MS = 50
"""A pause of a process that is told."""
_BEAT_S = 0.025


@dataclass(slots=True)
class Config:
    """What the harness asks of a process.

    Attributes:
        role: worker or client.
        url, prefix: the world.
        directory: of the ledger.
        workflows: those a worker knows; [] for all but cron.
        lease_ms, concurrency: of a worker.
        seed, first: of a client: its chance, and the first of its numbers.
        mix: primitive -> weight, of a client.
        plays: how many a client plays in all, and `at_a_time` of them.
    """

    role: str
    url: str
    prefix: str
    directory: str
    workflows: list[str] = field(default_factory=list)
    lease_ms: int = 300
    concurrency: int = 10
    seed: int = 0
    first: int = 0
    mix: dict[str, float] = field(default_factory=dict)
    plays: int = 1
    at_a_time: int = 1


async def be_worker(config: Config) -> None:
    """Work until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    options = StartWorkerOptions(
        app=APP,
        url=config.url,
        prefix=config.prefix,
        registry=define_all(config.workflows, WorkflowRegistry()),
        lease_ms=config.lease_ms,
        concurrency=config.concurrency,
        reaper_interval_ms=100,
    )
    while not stop.is_set():
        try:
            worker = await start_worker(options)
            break
        except RedflowError as exc:
            Here.ledger.note("start refused", error=str(exc))
            await asyncio.sleep(0.05)
    else:
        return
    Here.worker = worker
    Here.ledger.note("up", worker=worker.id, concurrency=config.concurrency, lease_ms=config.lease_ms)
    await stop.wait()
    await worker.stop()
    Here.ledger.note("down", worker=worker.id)


async def be_client(config: Config) -> None:
    """Play primitives, so many at a time, until all are over."""
    define_all(config.workflows, get_default_registry())  # a debounce's key is computed where its definition is
    client = create_client(url=config.url, prefix=config.prefix, app=APP)
    rng = random.Random(config.seed)
    orders = Orders(client, Here.ledger, rng, config.first)
    names = rng.choices(list(config.mix), list(config.mix.values()), k=config.plays)
    left = iter(names)
    for workflow in sorted({w for name in config.mix for w in PRIMITIVES[name].workflows}):
        await orders.known(workflow)
    if "fan-out" in config.mix:
        await orders.subscribed("news", SUBSCRIBERS)

    async def player() -> None:
        for name in left:
            Here.ledger.note("play", primitive=name)
            await PRIMITIVES[name].play(orders)

    try:
        await asyncio.gather(*(player() for _ in range(config.at_a_time)))
    finally:
        await client.close()
    Here.ledger.note("played")


async def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:  # noqa: ASYNC110
        await asyncio.sleep(1)  # nobody tells a child that its parent is gone
    os._exit(3)


async def _main(config: Config) -> None:
    watch = asyncio.create_task(_end_with_parent(os.getppid()))
    await (be_worker(config) if config.role == "worker" else be_client(config))
    watch.cancel()


def _tell_stalls(directory: Path) -> None:
    """Tell when this process did not get the processor: then it may lose a lease through nobody's fault."""
    ledger = Ledger(directory, f"{os.getpid()}-stalls")
    while True:
        before = time.monotonic()
        time.sleep(_BEAT_S)
        late_ms = (time.monotonic() - before - _BEAT_S) * 1000
        if late_ms > STALL_MS:
            ledger.note("stall", ms=late_ms + 1000 * _BEAT_S)


def run(config: Config) -> int:
    """Be the process that the config says; its exit code."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(process)d %(message)s")
    Here.ledger, Here.lists = Ledger(Path(config.directory)), Lists(Path(config.directory))
    threading.Thread(target=_tell_stalls, args=(Path(config.directory),), daemon=True).start()
    asyncio.run(_main(config))
    return 0

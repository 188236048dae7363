"""What the product takes for time and chance, drawn from the world while a simulation runs.

The modules of the product name `time`, `random`, `secrets` and `uuid`; for the time of a simulation these names mean
what stands here. Nothing of the product is changed otherwise, but for the thread that renews leases: in a simulation
it is a second event loop of its process, which stops and dies with it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

from redflow import _ids
from redflow.domain.run import RunIds
from redflow.engines.redis.loops import leases, registrar
from tests.simulation.loops import NodeLoop, World


def _stand_ins(world: World) -> dict[ModuleType, object]:
    """The module that is replaced -> what stands for it."""
    rng = world.rng

    def wall_ms() -> int:
        return world.now_ms + (world.current.skew_ms if world.current is not None else 0)

    return {
        time: SimpleNamespace(
            monotonic=lambda: world.now_us / 1e6,
            perf_counter=lambda: world.now_us / 1e6,
            time=lambda: wall_ms() / 1000,
            time_ns=lambda: wall_ms() * 1_000_000,
        ),
        random: SimpleNamespace(random=rng.random, randint=rng.randint),
        secrets: SimpleNamespace(token_hex=lambda count: rng.randbytes(count).hex(), token_bytes=rng.randbytes),
        uuid: SimpleNamespace(
            UUID=uuid.UUID, uuid4=lambda: uuid.UUID(bytes=rng.randbytes(16), version=4)
        ),
    }  # fmt: skip


def _start_beside(keeper: leases.LeaseKeeper) -> None:
    """Start the lease keeper as a second loop of its process."""
    keeper._beat()
    loop = asyncio.get_running_loop()
    assert isinstance(loop, NodeLoop)
    keeper._thread_loop = beside = loop.process.new_loop()
    task = beside.create_task(keeper._keep())
    task.add_done_callback(lambda _done: keeper._on_loop(leases._end, keeper._ended))


@contextmanager
def simulated(world: World) -> Iterator[None]:
    """The product lives in this world."""
    undo: list[tuple[Any, str, object]] = []

    def put(place: Any, name: str, value: object) -> None:
        undo.append((place, name, getattr(place, name)))
        setattr(place, name, value)

    stand_ins = _stand_ins(world)
    for name, module in list(sys.modules.items()):
        if module is not None and name.startswith("redflow"):
            for told, stand_in in ((real.__name__, stand_in) for real, stand_in in stand_ins.items()):
                if isinstance(vars(module).get(told), ModuleType):
                    put(module, told, stand_in)
    put(_ids, "_ids", RunIds())
    put(registrar, "os", SimpleNamespace(getpid=lambda: 1))
    put(registrar, "platform", SimpleNamespace(node=lambda: "simulated"))
    put(leases.LeaseKeeper, "start", _start_beside)
    log = logging.getLogger("redflow")
    put(log, "disabled", True)
    try:
        yield
    finally:
        for place, name, value in reversed(undo):
            setattr(place, name, value)

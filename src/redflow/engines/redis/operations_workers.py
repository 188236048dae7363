"""Workers as operators see them: who lives, what they serve and run, and drain."""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Final

import orjson

from redflow.engines.redis.operations_base import OperationsBase, Place
from redflow.engines.redis.replies import as_fields, as_int, as_list, as_text, readable
from redflow.engines.redis.scripts import verb
from redflow.types import DrainEnd, WorkerInfo, WorkerPage

DRAIN_WORKER = verb("drain_worker", args="worker, drain")

_MOST_LEASES: Final = 50_000
_LEASES_A_TRIP: Final = 1_000
_MOST_WORKERS: Final = 10_000


class Workers(OperationsBase):
    """What is asked of workers."""

    async def workers(self, cursor: str | None, limit: int) -> WorkerPage:
        """See `Operations.workers`."""
        alive = await self._alive()
        names = sorted(alive)
        first = 0 if cursor is None else bisect.bisect_right(names, cursor)
        some = {name: alive[name] for name in names[first : first + limit]}
        page: WorkerPage = {"workers": await self._read_workers(some)}
        if first + limit < len(names):
            page["next_cursor"] = names[first + limit - 1]
        return page

    async def worker(self, worker_id: str) -> WorkerInfo | None:
        """See `Operations.worker`."""
        alive = await self._alive()
        if worker_id not in alive:
            return None
        return next(iter(await self._read_workers({worker_id: alive[worker_id]})), None)

    async def drain_worker(self, worker_id: str, end: DrainEnd | None) -> bool:
        """See `Operations.drain_worker`."""
        if not (isinstance(worker_id, str) and worker_id.isascii() and worker_id.isalnum()):
            return False
        args = (worker_id, end or "")
        told = await self._of_all(lambda place: place.connection.call(DRAIN_WORKER, place.keys.base, args))
        return any(as_int(answer) == 1 for answer in told)

    async def _alive(self) -> dict[str, int]:
        """The live workers, and until when each counts as alive."""
        place = self._home
        now, key = await place.now(), f"{place.keys.base}workers"
        flat = as_list(
            await place.connection.read(
                "ZRANGEBYSCORE", key, f"({now}", "+inf", "WITHSCORES", "LIMIT", 0, _MOST_WORKERS
            )
        )
        return {as_text(worker): as_int(until) for worker, until in zip(flat[::2], flat[1::2], strict=True)}

    async def _read_workers(self, alive: dict[str, int]) -> list[WorkerInfo]:
        """What is known of workers; one that said goodbye meanwhile is left out."""
        place, names = self._home, list(alive)
        base = place.keys.base
        replies = await place.connection.read_many(
            [("HGETALL", f"{base}worker:{name}") for name in names]
            + [("SMEMBERS", f"{base}knows:{name}") for name in names]
        )
        running = Counter[str]()
        for counted in await self._of_all(_count_holders) if names else ():
            running.update(counted)
        found: list[WorkerInfo] = []
        for n, name in enumerate(names):
            record = as_fields(replies[n]) if as_list(replies[n]) else {}
            knows = sorted(as_text(workflow) for workflow in as_list(replies[len(names) + n]))
            read = partial(
                _info, name, record, [workflow for workflow in knows if workflow], alive[name], running[name]
            )
            info = readable(f"worker {name}", read) if b"info" in record else None
            if info is not None:
                found.append(info)
        return found


async def _count_holders(place: Place) -> Counter[str]:
    """How many runs of a shard each worker holds, by their leases."""
    counted = Counter[str]()
    for first in range(0, _MOST_LEASES, _LEASES_A_TRIP):
        last = first + _LEASES_A_TRIP - 1
        ids = as_list(await place.connection.read("ZRANGE", f"{place.keys.base}leases", first, last))
        tokens = await place.connection.read_many([("HGET", place.keys.run(as_text(run)), "k") for run in ids])
        counted.update(as_text(token).partition(".")[0] for token in tokens if isinstance(token, bytes))
        if len(ids) < _LEASES_A_TRIP:
            break
    return counted


def _info(
    worker: str, record: dict[bytes, bytes], workflows: Sequence[str], alive_until: int, running: int
) -> WorkerInfo:
    said = orjson.loads(record[b"info"])
    info: WorkerInfo = {
        "id": worker,
        "app": record.get(b"app", b"").decode(),
        "queues": [str(queue) for queue in said.get("queues", [])],
        "workflows": list(workflows),
        "concurrency": int(said.get("concurrency", 0)),
        "running": running,
        "started_at": int(float(record.get(b"started", b"0"))),
        "alive_until": alive_until,
    }
    if "alive_ms" in said:
        info["heartbeat_at"] = alive_until - int(said["alive_ms"])
    if "host" in said:
        info["host"] = str(said["host"])
    if "pid" in said:
        info["pid"] = int(said["pid"])
    if "version" in said:
        info["version"] = str(said["version"])
    if (drain := record.get(b"drain")) is not None:
        info["draining"] = "stop" if drain == b"stop" else "idle"
    return info

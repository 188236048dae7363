"""Explains runs of a prefix of several shards: what the run's own shard tells, and what it waits for on others."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import orjson

from redflow.domain.explain import LiveWorker, OpenStep, RunFacts
from redflow.domain.run import public_run_id, stored_run_id
from redflow.domain.shards import shard_of_name, shard_of_run
from redflow.engines.redis.connection import Connection
from redflow.engines.redis.explaining import Explainer
from redflow.engines.redis.keys import Keys
from redflow.engines.redis.replies import as_int, as_list, as_text

Place = tuple[Connection, Keys]


class ShardedExplainer(Explainer):
    """Explains runs of one prefix.

    Args:
        places: connection and keys of each shard.
    """

    def __init__(self, places: Sequence[Place]) -> None:
        super().__init__(*places[0])
        self._places = places
        self._shards = [Explainer(*place) for place in places]

    async def facts(self, run_id: str) -> RunFacts | None:
        """What there is to know about it; None if there is none of that id."""
        stored = stored_run_id(run_id)
        if stored is None or shard_of_run(stored) >= len(self._places):
            return None
        facts = await self._shards[shard_of_run(stored)].facts(run_id)
        if facts is None:
            return None
        facts = replace(facts, steps=list(await asyncio.gather(*map(self._step, facts.steps))))
        if facts.status == "queued" and facts.mutex and not facts.place:
            facts = await self._in_line(stored, facts)
        if not any(worker.knows for worker in facts.workers):
            workers = await self._workers_at_home(facts)
            facts = replace(facts, workers=workers) if workers else facts
        return facts

    async def _step(self, step: OpenStep) -> OpenStep:
        """A child on another shard tells its status there."""
        stored = stored_run_id(step.child)
        if step.child_status or stored is None or shard_of_run(stored) >= len(self._places):
            return step
        connection, keys = self._places[shard_of_run(stored)]
        status = await connection.read("HGET", keys.run(stored), "s")
        return replace(step, child_status=as_text(status)) if status is not None else step

    async def _in_line(self, stored: str, facts: RunFacts) -> RunFacts:
        """Where a run stands at the lock of its mutex, and who holds that."""
        connection, keys = self._places[shard_of_name(facts.mutex, len(self._places))]
        line = f"{keys.base}lockline:{facts.mutex}"
        rank, size, owner = await connection.read_many(
            [("ZRANK", line, stored), ("ZCARD", line), ("HGET", f"{keys.base}lock:{facts.mutex}", "o")]
        )
        if rank is None:
            return facts
        holders = list(facts.holders)
        if owner is not None:
            holder = as_text(owner)
            its, its_keys = self._places[shard_of_run(holder)]
            workflow = await its.read("HGET", its_keys.run(holder), "w")
            holders = [(public_run_id(holder), as_text(workflow) if workflow is not None else "")]
        return replace(facts, place="mutexline", position=as_int(rank) + 1, size=as_int(size), holders=holders)

    async def _workers_at_home(self, facts: RunFacts) -> list[LiveWorker]:
        """All live workers that claim: none of those that look at the run's shard knows its workflow."""
        connection, keys = self._places[0]
        names = as_list(
            await connection.read("ZRANGEBYSCORE", f"{keys.base}workers", facts.now, "+inf", "LIMIT", 0, 100)
        )
        workers = [as_text(name) for name in names]
        replies = await connection.read_many(
            [("HMGET", f"{keys.base}worker:{worker}", "info", "drain") for worker in workers]
            + [("SISMEMBER", f"{keys.base}knows:{worker}", facts.workflow) for worker in workers]
        )
        found: list[LiveWorker] = []
        for worker, told, knows in zip(workers, replies[: len(workers)], replies[len(workers) :], strict=True):
            info, drain = as_list(told)
            if isinstance(info, bytes) and drain is None:
                said = orjson.loads(info)
                queues, slots = list(said.get("queues", [])), int(said.get("concurrency", 0))
                found.append(LiveWorker(worker, queues, slots, knows == 1))
        return found

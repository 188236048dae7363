"""The Redis engine of a prefix that is spread over shards: one engine for each, and what spans them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from redflow.definitions import AnyWorkflow
from redflow.domain.names import near_names
from redflow.domain.run import RunOrder, stored_run_id
from redflow.domain.sealing import Vault
from redflow.domain.shards import on_shard, shard_of_name, shard_of_run
from redflow.domain.step import StepKind
from redflow.engine import Emitted, EventOrder
from redflow.engines.redis.connection import Connection
from redflow.engines.redis.engine import RedisEngine
from redflow.engines.redis.keys import Keys
from redflow.engines.redis.operations import RedisOperations
from redflow.engines.redis.operations_base import Place
from redflow.engines.redis.outgoing import Outgoing
from redflow.engines.redis.retention import Resets
from redflow.engines.redis.shard_record import ShardRecord
from redflow.engines.redis.sharded_definitions import ShardedDefinitions
from redflow.engines.redis.sharded_events import ShardedEvents
from redflow.engines.redis.sharded_explaining import ShardedExplainer
from redflow.engines.redis.sharded_reads import ShardedListing, ShardedResults, sum_of
from redflow.engines.redis.shards import by_node, close_all
from redflow.errors import RedflowError, UnknownWorkflowError
from redflow.types import AttemptTrace, ResolvedDebounce, RunState, RunStats, StepState


class ShardedEngine(RedisEngine):
    """Engine over the shards of one prefix; itself the engine of the home shard as far as nothing else is said.

    Args:
        connections: to each shard.
        record: how many shards the prefix has, as it is written down.
        prefix: of all keys.
        retention_ms: how long finished runs are kept.
        local_zone: tells the IANA name of this machine's time zone, if it is known.
        vault: encrypts payloads and blinds keys; None: nothing does.
    """

    def __init__(
        self,
        connections: Sequence[Connection],
        record: ShardRecord,
        prefix: str,
        retention_ms: int,
        local_zone: Callable[[], str | None] = lambda: None,
        vault: Vault | None = None,
    ) -> None:
        count = len(connections)
        places = [(connection, Keys.of(prefix, k, count)) for k, connection in enumerate(connections)]
        super().__init__(connections[0], prefix, retention_ms, local_zone, places[0][1], vault)
        self._record = record
        self.shards = [RedisEngine(c, prefix, retention_ms, local_zone, keys, vault) for c, keys in places]
        """The engine of each shard, for what concerns that one alone."""
        self.outgoing = Outgoing([shard.scripts for shard in self.shards])
        self.definitions = ShardedDefinitions([shard.definitions for shard in self.shards])
        self.events = ShardedEvents(connections[0], places[0][1], retention_ms, self.outgoing, places, vault)
        self._listing = ShardedListing([shard._listing for shard in self.shards], places, vault)
        self._results = ShardedResults(places, vault)
        self._explainer = ShardedExplainer(places, vault)
        operated = [
            Place(it.connection, it.keys, it.scripts, it.crons, it.queries, partial(self._after_cancels_at, shard))
            for shard, it in enumerate(self.shards)
        ]
        self.operations = RedisOperations(operated, self._listing, self.definitions)

    def shard_of(self, workflow: str) -> int:
        """Where the runs of a workflow live."""
        return shard_of_name(workflow, len(self.shards))

    def _with(self, run_id: str) -> RedisEngine | None:
        """The engine that has a run; None if there is no such shard."""
        stored = stored_run_id(run_id)
        shard = len(self.shards) if stored is None else shard_of_run(stored)
        return self.shards[shard] if shard < len(self.shards) else None

    async def _make_sure(self) -> None:
        """After a reset the number of shards is written down anew."""
        if not self._record.checked:
            await self._record.look(self.connection.read)

    async def start_run(self, order: RunOrder, app: str | None, debounce: ResolvedDebounce | None = None) -> str:
        """See `Engine.start_run`."""
        await self._make_sure()
        shard = self.shard_of(order.workflow)
        try:
            run_id = await self.shards[shard].start_run(placed(order, shard), app, debounce)
        except UnknownWorkflowError as exc:
            near = near_names(order.workflow, await self.definitions.names())
            raise UnknownWorkflowError(order.workflow, near_names=near) from exc
        await self._deliver_parent(order.parent_run_id, shard)
        return run_id

    async def start_runs(self, orders: Sequence[RunOrder], app: str | None) -> list[str | RedflowError]:
        """See `Engine.start_runs`."""
        await self._make_sure()
        by_shard: dict[int, list[int]] = {}
        for index, order in enumerate(orders):
            by_shard.setdefault(self.shard_of(order.workflow), []).append(index)
        answers: dict[int, str | RedflowError] = {}

        async def start(shard: int, indexes: Sequence[int]) -> None:
            some = [placed(orders[index], shard) for index in indexes]
            answers.update(zip(indexes, await self.shards[shard].start_runs(some, app), strict=True))

        await asyncio.gather(*(start(shard, indexes) for shard, indexes in by_shard.items()))
        known: list[str] | None = None
        for index, answer in answers.items():
            if isinstance(answer, UnknownWorkflowError):
                known = await self.definitions.names() if known is None else known
                name = orders[index].workflow
                answers[index] = UnknownWorkflowError(name, near_names=near_names(name, known))
        return [answers[index] for index in range(len(orders))]

    async def _deliver_parent(self, parent: str | None, shard: int) -> None:
        """A run with a parent on another shard is entered among its children at once."""
        stored = stored_run_id(parent)
        if stored is not None and shard_of_run(stored) not in (shard, len(self.shards)):
            await self.outgoing.try_to_deliver(shard)

    async def cancel_run(self, run_id: str, reason: str) -> bool:
        """See `Engine.cancel_run`."""
        stored, engine = stored_run_id(run_id), self._with(run_id)
        if stored is None or engine is None:
            return False
        answer, cascade = await engine.scripts.cancel_tree(stored, reason, secrets.token_hex(4))
        if cascade:
            await self.outgoing.carry_cancels_on(shard_of_run(stored))
        await self.outgoing.try_to_deliver(shard_of_run(stored))
        return answer in ("canceled", "requested")

    async def _after_cancels_at(self, shard: int, cascade: bool) -> None:
        if cascade:
            await self.outgoing.carry_cancels_on(shard)
        await self.outgoing.try_to_deliver(shard)

    async def get_run(self, run_id: str) -> RunState | None:
        """See `Engine.get_run`."""
        engine = self._with(run_id)
        return None if engine is None else await engine.get_run(run_id)

    async def get_run_steps(self, run_id: str) -> list[StepState]:
        """See `Engine.get_run_steps`."""
        engine = self._with(run_id)
        return [] if engine is None else await engine.get_run_steps(run_id)

    async def get_step_kinds(self, run_id: str) -> dict[str, StepKind]:
        """See `Engine.get_step_kinds`."""
        engine = self._with(run_id)
        return {} if engine is None else await engine.get_step_kinds(run_id)

    async def get_run_attempts(self, run_id: str) -> list[AttemptTrace]:
        """See `Engine.get_run_attempts`."""
        engine = self._with(run_id)
        return [] if engine is None else await engine.get_run_attempts(run_id)

    async def emit_event(self, order: EventOrder) -> Emitted:
        """See `Engine.emit_event`."""
        await self._make_sure()
        return await self.events.emit(order)

    async def sync_registry(self, definitions: Sequence[AnyWorkflow], app: str) -> None:
        """See `Engine.sync_registry`."""
        await self._make_sure()
        await self.definitions.sync(definitions, app, None)

    async def get_stats(self) -> RunStats:
        """See `Engine.get_stats`."""
        return sum_of(await asyncio.gather(*(shard.get_stats() for shard in self.shards)))

    async def cleanup_expired_runs(self, reference_ms: int | None, limit: int) -> int:
        """See `Engine.cleanup_expired_runs`."""
        purged = 0
        for number, shard in enumerate(self.shards):
            if purged < limit:
                await self.outgoing.try_to_deliver(number)  # a run with entries under way would stay
                purged += await shard.cleanup_expired_runs(reference_ms, limit - purged)
        return purged

    async def reset_state(self) -> int:
        """See `Engine.reset_state`."""
        removed = await asyncio.gather(*(resets.everything() for resets in await self._resets_of_all()))
        return sum(removed) + await self._record.remove(self.connection.read)

    async def reset_runs(self) -> int:
        """See `Engine.reset_runs`."""
        return sum(await asyncio.gather(*(resets.runs() for resets in await self._resets_of_all())))

    async def _resets_of_all(self) -> list[Resets]:
        """One for each server: it is gone through once."""
        groups = await by_node([shard.connection for shard in self.shards])
        ordered = [[self.shards[number] for number in group] for group in groups]
        return [Resets(first.connection, first.keys, [it.keys for it in others]) for first, *others in ordered]

    async def close(self) -> None:
        """See `Engine.close`."""
        await self._results.close()
        await close_all([shard.connection for shard in self.shards])


def placed(order: RunOrder, shard: int) -> RunOrder:
    """The order with an id that names the shard."""
    return replace(order, run_id=on_shard(order.run_id, shard))

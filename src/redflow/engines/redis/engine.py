"""The Redis engine as the client sees it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence

from redflow.definitions import AnyWorkflow
from redflow.domain.doctor import diagnose
from redflow.domain.names import near_names
from redflow.domain.run import RunOrder, public_run_id, stored_run_id
from redflow.domain.sealing import Vault
from redflow.domain.step import StepKind
from redflow.engine import Emitted, EventOrder, RunEnd
from redflow.engine_operations import Operations
from redflow.engines.redis.admission import create_debounced
from redflow.engines.redis.batch import BATCH_CAP, Batcher
from redflow.engines.redis.connection import Connection
from redflow.engines.redis.crons import Crons
from redflow.engines.redis.definitions import Definitions
from redflow.engines.redis.doctor import examine
from redflow.engines.redis.events import Events
from redflow.engines.redis.explaining import Explainer
from redflow.engines.redis.keys import Keys
from redflow.engines.redis.listing import Listing
from redflow.engines.redis.operations import RedisOperations
from redflow.engines.redis.operations_base import Place
from redflow.engines.redis.queries import Queries
from redflow.engines.redis.results import Results
from redflow.engines.redis.retention import Resets
from redflow.engines.redis.runs import RunScripts
from redflow.errors import NotDurableError, RedflowError, UnknownWorkflowError
from redflow.types import (
    AttemptTrace,
    DoctorReport,
    Durability,
    EventDefinition,
    EventRecord,
    ListedEvent,
    ListedRun,
    ListEventsParams,
    ListRunsParams,
    ResolvedDebounce,
    RunExplanation,
    RunState,
    RunStats,
    SearchRunsParams,
    SearchRunsResult,
    StepState,
    WorkflowMeta,
)


class RedisEngine:
    """Engine over one connection and one prefix.

    Args:
        connection: to the server.
        prefix: of all keys.
        retention_ms: how long finished runs are kept.
        local_zone: tells the IANA name of this machine's time zone, if it is known.
        keys: of the one shard of several that this is the engine of; None: the prefix has one.
        vault: encrypts payloads and blinds keys; None: nothing does.
    """

    def __init__(
        self,
        connection: Connection,
        prefix: str,
        retention_ms: int,
        local_zone: Callable[[], str | None] = lambda: None,
        keys: Keys | None = None,
        vault: Vault | None = None,
    ) -> None:
        self.connection = connection
        self.keys = keys or Keys.of(prefix)
        self.scripts = RunScripts(connection, self.keys, retention_ms, vault=vault)
        self.crons = Crons(connection, self.keys, local_zone, vault=vault)
        self.definitions = Definitions(connection, self.keys, self.crons)
        self.queries = Queries(connection, self.keys, vault)
        self.events = Events(connection, self.keys, retention_ms, vault)
        self._explainer = Explainer(connection, self.keys, vault=vault)
        self._listing = Listing(connection, self.keys, vault)
        self._results = Results(connection, self.keys, vault)
        place = Place(connection, self.keys, self.scripts, self.crons, self.queries, self._after_cancels)
        self.operations: Operations = RedisOperations([place], self._listing, self.definitions)
        self._resets = Resets(connection, self.keys)
        self._creations: dict[tuple[str | None, Durability], Batcher[RunOrder, tuple[str, str, bool]]] = {}

    async def start_run(self, order: RunOrder, app: str | None, debounce: ResolvedDebounce | None = None) -> str:
        """See `Engine.start_run`."""
        if debounce is None:
            code, run_id, confirmed = await self._creations_of(app, order.durability).submit(order)
        else:
            code, run_id, confirmed = await create_debounced(self.scripts, order, app, debounce)
        if code == "unknown_workflow":
            raise UnknownWorkflowError(
                order.workflow, near_names=near_names(order.workflow, await self.definitions.names())
            )
        if not confirmed:
            raise self._not_durable(run_id, order.durability)
        return public_run_id(run_id)

    def _creations_of(self, app: str | None, durability: Durability) -> Batcher[RunOrder, tuple[str, str, bool]]:
        """Starts that coroutines of an app make at the same time travel together."""
        if (app, durability) not in self._creations:
            self._creations[app, durability] = Batcher(
                lambda orders: self._create(orders, app, durability), lambda order: len(order.input_json)
            )
        return self._creations[app, durability]

    def _create(
        self, orders: Sequence[RunOrder], app: str | None, durability: Durability
    ) -> Awaitable[list[tuple[str, str, bool]]]:
        """Accept runs; per order (code, stored run id, whether it is as durable as was asked)."""
        if durability is Durability.NONE:
            return _all_confirmed(self.scripts.create(orders, app))
        return self._create_durably(orders, app, durability)

    async def _create_durably(
        self, orders: Sequence[RunOrder], app: str | None, durability: Durability
    ) -> list[tuple[str, str, bool]]:
        codes, confirmed = await self.scripts.create_durably(orders, app, durability)
        return [(code, run_id, confirmed) for code, run_id in codes]

    def _not_durable(self, run_id: str, durability: Durability) -> NotDurableError:
        public, wait_ms = public_run_id(run_id), self.connection.durable_wait_ms
        return NotDurableError(
            f"run {public} was started, but that it is {durability} was not confirmed within {wait_ms} ms",
            run_id=public,
        )

    async def start_runs(self, orders: Sequence[RunOrder], app: str | None) -> list[str | RedflowError]:
        """See `Engine.start_runs`."""
        answers: dict[int, str | RedflowError] = {}
        for durability in {order.durability for order in orders}:
            places = [place for place, order in enumerate(orders) if order.durability is durability]
            chunks = [[orders[n] for n in places[i : i + BATCH_CAP]] for i in range(0, len(places), BATCH_CAP)]
            # All of them are written in one go, and the server works on one after the other.
            started = await asyncio.gather(*[self._start_chunk(chunk, app, durability) for chunk in chunks])
            answers.update(zip(places, (answer for chunk in started for answer in chunk), strict=True))
        return [answers[place] for place in range(len(orders))]

    async def _start_chunk(
        self, orders: Sequence[RunOrder], app: str | None, durability: Durability
    ) -> list[str | RedflowError]:
        try:
            codes = await self._create(orders, app, durability)
        except RedflowError as exc:
            return [exc for _ in orders]
        answers: list[str | RedflowError] = []
        known: list[str] | None = None
        for order, (code, run_id, confirmed) in zip(orders, codes, strict=True):
            if code == "unknown_workflow":
                known = await self.definitions.names() if known is None else known
                answers.append(UnknownWorkflowError(order.workflow, near_names=near_names(order.workflow, known)))
            else:
                answers.append(public_run_id(run_id) if confirmed else self._not_durable(run_id, durability))
        return answers

    async def _after_cancels(self, cascade: bool) -> None:
        if cascade:
            await self.scripts.carry_cancels_on()

    async def cancel_run(self, run_id: str, reason: str) -> bool:
        """See `Engine.cancel_run`."""
        stored = stored_run_id(run_id)
        if stored is None:
            return False
        answer, cascade = await self.scripts.cancel_tree(stored, reason, secrets.token_hex(4))
        if cascade:
            await self.scripts.carry_cancels_on()
        return answer in ("canceled", "requested")

    async def get_run(self, run_id: str) -> RunState | None:
        """See `Engine.get_run`."""
        return await self.queries.run(run_id)

    async def get_run_steps(self, run_id: str) -> list[StepState]:
        """See `Engine.get_run_steps`."""
        return await self.queries.steps(run_id)

    async def get_step_kinds(self, run_id: str) -> dict[str, StepKind]:
        """See `Engine.get_step_kinds`."""
        return await self.queries.step_kinds(run_id)

    async def get_run_attempts(self, run_id: str) -> list[AttemptTrace]:
        """See `Engine.get_run_attempts`."""
        return await self.queries.attempts(run_id)

    async def explain_run(self, run_id: str) -> RunExplanation | None:
        """See `Engine.explain_run`."""
        return await self._explainer.explain(run_id)

    async def list_runs(self, params: ListRunsParams) -> list[ListedRun]:
        """See `Engine.list_runs`."""
        return await self._listing.runs(params)

    async def search_runs(self, params: SearchRunsParams) -> SearchRunsResult:
        """See `Engine.search_runs`."""
        return await self._listing.search(params)

    async def emit_event(self, order: EventOrder) -> Emitted:
        """See `Engine.emit_event`."""
        return await self.events.emit(order)

    async def event_contract(self, name: str) -> str | None:
        """See `Engine.event_contract`."""
        return await self.events.contract(name)

    async def get_event(self, event_id: str) -> EventRecord | None:
        """See `Engine.get_event`."""
        return await self.events.get(event_id)

    async def list_events(self, params: ListEventsParams) -> list[ListedEvent]:
        """See `Engine.list_events`."""
        return await self.events.list(params)

    async def list_event_definitions(self) -> list[EventDefinition]:
        """See `Engine.list_event_definitions`."""
        return await self.definitions.event_definitions()

    async def cleanup_expired_events(self, reference_ms: int | None, limit: int) -> int:
        """See `Engine.cleanup_expired_events`."""
        return await _in_chunks(self.events.purge, reference_ms, limit)

    async def wait_for_end(self, run_id: str, timeout_s: float) -> RunEnd | None:
        """See `Engine.wait_for_end`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        end = await self._results.end_of(run_id, timeout_s)
        while end is not None and end.merged_into is not None:
            end = await self._results.end_of(end.merged_into, max(0.0, deadline - loop.time()))
        return end

    async def sync_registry(self, definitions: Sequence[AnyWorkflow], app: str) -> None:
        """See `Engine.sync_registry`."""
        await self.definitions.sync(definitions, app, None)

    async def list_workflows(self) -> list[str]:
        """See `Engine.list_workflows`."""
        return await self.definitions.names()

    async def get_workflow_meta(self, name: str) -> WorkflowMeta | None:
        """See `Engine.get_workflow_meta`."""
        return await self.definitions.get(name)

    async def list_workflows_meta(self) -> list[WorkflowMeta]:
        """See `Engine.list_workflows_meta`."""
        return await self.definitions.all()

    async def get_stats(self) -> RunStats:
        """See `Engine.get_stats`."""
        return await self.queries.stats()

    async def doctor(self) -> DoctorReport:
        """See `Engine.doctor`."""
        return diagnose(await examine(self.connection, self.keys))

    async def cleanup_expired_runs(self, reference_ms: int | None, limit: int) -> int:
        """See `Engine.cleanup_expired_runs`."""
        return await _in_chunks(self.scripts.purge, reference_ms, limit)

    async def reset_state(self) -> int:
        """See `Engine.reset_state`."""
        return await self._resets.everything()

    async def reset_runs(self) -> int:
        """See `Engine.reset_runs`."""
        return await self._resets.runs()

    async def close(self) -> None:
        """See `Engine.close`."""
        await self._results.close()
        await self.connection.close()


async def _all_confirmed(codes: Awaitable[list[tuple[str, str]]]) -> list[tuple[str, str, bool]]:
    return [(code, run_id, True) for code, run_id in await codes]


async def _in_chunks(purge: Callable[[int | None, int], Awaitable[int]], reference_ms: int | None, limit: int) -> int:
    """Purge at most `limit`, few enough in each call not to keep the server from others; how many."""
    purged = 0
    while purged < limit:
        chunk = min(limit - purged, BATCH_CAP)
        count = await purge(reference_ms, chunk)
        purged += count
        if count < chunk:
            break
    return purged

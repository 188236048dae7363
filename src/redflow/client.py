"""RedflowClient: start runs, wait for them, look at them. One short method per verb."""

from __future__ import annotations

import math
import random
import time
import uuid
from collections.abc import Iterable
from datetime import datetime

from redflow import config, telemetry
from redflow._ids import next_run_id
from redflow.bulk import start_many
from redflow.codec import AesGcmCodec, PayloadCodec
from redflow.debouncing import checked_debounce, find_debounce
from redflow.default import get_default_client, set_default_client
from redflow.definitions import validate_input_with_schema
from redflow.domain.names import check_key, check_name, check_prefix
from redflow.domain.options import check_durability, positive_ms
from redflow.domain.orders import build_order
from redflow.domain.retry import MAX_JITTER_MS, backoff_ms
from redflow.domain.retry import is_retryable_error as is_retryable_error
from redflow.domain.sealing import Vault
from redflow.domain.step import StepKind
from redflow.emitting import accept_event, build_event
from redflow.engine import Engine, RunEnd
from redflow.engines.redis.durable import WAIT_MS
from redflow.engines.redis.engine import RedisEngine
from redflow.engines.redis.sharded_engine import ShardedEngine
from redflow.engines.redis.shards import open_shards
from redflow.engines.redis.sources import AnyRedis, EmbeddedUse, address_of, open_source
from redflow.errors import CanceledError, RedflowError, TimeoutError
from redflow.errors import make_error_json as make_error_json
from redflow.execution.failures import run_failure
from redflow.handle import RunHandle
from redflow.operate import (
    QueueOperations,
    RunOperations,
    ScheduleOperations,
    WorkerOperations,
    WorkflowOperations,
)
from redflow.registry import WorkflowRegistry, get_default_registry
from redflow.types import (
    TERMINAL_STATUSES,
    AttemptTrace,
    DoctorReport,
    Durability,
    EmittedEvent,
    EventDefinition,
    EventRecord,
    JsonData,
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
    WorkflowCall,
    WorkflowMeta,
)

__all__ = [
    "ConcreteRunHandle",
    "RedflowClient",
    "create_client",
    "default_prefix",
    "get_default_client",
    "is_terminal_status",
    "set_default_client",
    "validate_input_with_schema",
]

ConcreteRunHandle = RunHandle
default_prefix = config.default_prefix


def create_client(
    *,
    app: str | None = None,
    redis: AnyRedis | None = None,
    url: str | None = None,
    prefix: str | None = None,
    durability: Durability | None = None,
    durability_timeout_ms: int = WAIT_MS,
    shards: int | None = None,
    codec: PayloadCodec | None = None,
) -> RedflowClient:
    """A client; opens no connection.

    Args:
        app: name of the application; None means REDFLOW_APP.
        redis: a redis-py asyncio client (bytes or `decode_responses`), kept as `client.redis`.
        url: of the server: redis://, rediss://, unix://, redis+sentinel://, redis+cluster:// or embedded://; None means
            REDIS_URL, else redis://localhost:6379.
        prefix: of all keys; None means REDFLOW_PREFIX, else "redflow:v1". Two prefixes are two worlds.
        durability: how safe a run or event must be before starting or emitting it returns; None is Durability.NONE. A
            workflow may say otherwise for its runs.
        durability_timeout_ms: how long a confirmation of that is waited for, ms; then NotDurableError is raised.
        shards: over how many hash slots the prefix is spread, 1 to 256, the same in every program that uses it; None
            means REDFLOW_SHARDS, else 1.
        codec: encrypts payloads before they leave this process, see `redflow.codec`; None means an AesGcmCodec with the
            keys of REDFLOW_CODEC_KEYS or REDFLOW_CODEC_KEYS_FILE, if one is set, else nothing is encrypted.

    Raises:
        ValueError: the URL, the prefix, the number of shards or what the environment says of keys is none.
        MissingExtraError: the environment names keys, and the package `cryptography` is not installed.

    Example:
        >>> client = create_client(url="redis://127.0.0.1:6379")
    """
    shards = config.shards(shards)
    wanted = Durability.NONE if durability is None else check_durability(durability)
    wait_ms = positive_ms(durability_timeout_ms, "durability_timeout_ms")
    source = None
    if redis is None:
        source = open_source(config.redis_url(url))
        redis = source.redis
    client = RedflowClient._spread(redis, config.resolve_prefix(prefix), config.resolve_app(app), shards, codec)
    client.durability = wanted
    for connection in client._connections:
        connection.durable_wait_ms = wait_ms
    if source is None:
        return client
    client._embedded = source.embedded
    for connection in client._connections:
        connection.address = source.address
    if source.reply_timeout_s is not None:
        client.connection.limit_silence(source.reply_timeout_s)
    return client


class RedflowClient:
    """Starts runs and reads them.

    Attributes:
        redis: the redis-py client it was made with; redflow's own connections are made like its.
        prefix: of all keys.
        app: name of the application, or None.
        run_history_retention_ms: how long finished runs are kept, ms.
        durability: how safe a run or event must be before starting or emitting it returns.
        shards: over how many hash slots the prefix is spread.
        codec: encrypts payloads; None: nothing does.
        operate: repair and look at many runs: retry, run again, bulk jobs, failure groups, export.
        queues: their lines; pause and resume.
        workflows: their counts; pause and resume.
        schedules: cron triggers with their next times; pause, resume, fire now.
        workers: who lives and what they serve; drain.
    """

    def __init__(
        self,
        redis: AnyRedis,
        prefix: str,
        app: str | None = None,
        run_history_retention_ms: float | None = None,
        *,
        codec: PayloadCodec | None = None,
    ) -> None:
        self._set_up(redis, prefix, app, run_history_retention_ms, config.shards(), codec)

    @classmethod
    def _spread(
        cls, redis: AnyRedis, prefix: str, app: str | None, shards: int, codec: PayloadCodec | None
    ) -> RedflowClient:
        """A client of a prefix of so many shards."""
        client = cls.__new__(cls)
        client._set_up(redis, prefix, app, None, shards, codec)
        return client

    def _set_up(
        self,
        redis: AnyRedis,
        prefix: str,
        app: str | None,
        run_history_retention_ms: float | None,
        shards: int,
        codec: PayloadCodec | None,
    ) -> None:
        check_prefix(prefix)
        self.codec = _codec_from_environment() if codec is None else codec
        vault = None if self.codec is None else Vault(self.codec, prefix)
        self.redis = redis
        self.prefix = prefix
        self.app = app
        self.durability = Durability.NONE
        self.run_history_retention_ms = config.resolve_retention_ms(run_history_retention_ms)
        self.shards = shards
        self._connections, record = open_shards(redis, prefix, self.shards, address_of(redis))
        self.connection = self._connections[0]
        kept = (prefix, self.run_history_retention_ms, config.local_zone)
        if self.shards == 1:
            engine = RedisEngine(self.connection, *kept, vault=vault)
        else:
            engine = ShardedEngine(self._connections, record, *kept, vault=vault)
        self.engine: Engine = engine
        self.operate = RunOperations(self)
        self.queues = QueueOperations(self)
        self.workflows = WorkflowOperations(self)
        self.schedules = ScheduleOperations(self)
        self.workers = WorkerOperations(self)
        self._embedded: EmbeddedUse | None = None
        self._registry: WorkflowRegistry | None = None

    async def close(self) -> None:
        """Close all connections, those of the given Redis client too."""
        await self.engine.close()
        await self.redis.aclose()
        if self._embedded is not None:
            await self._embedded.release()

    # -- starting runs ------------------------------------------------------------------------------------------

    async def emit_workflow(
        self,
        workflow_name: str,
        input: object,
        *,
        idempotency_key: str | None = None,
        idempotency_ttl: int | None = None,
        run_at: datetime | None = None,
        parent_run_id: str | None = None,
        priority: int | None = None,
        run_timeout_ms: float | str | None = None,
        durability: Durability | None = None,
    ) -> RunHandle[JsonData]:
        """Start a run by the workflow's name; the input is stored as it is and validated when the run starts.

        Args:
            workflow_name: a registered workflow.
            input: JSON; tuples become lists.
            idempotency_key: while it holds, the same key gives the same run, unless that failed or was canceled.
            idempotency_ttl: how long the key holds, whole seconds >= 1; None is 7 days.
            run_at: not before; a naive datetime is local time; the past means now.
            parent_run_id: stored with the run.
            priority: -100 to 100: of the ready runs of a queue those with a higher one start first; None is the
                workflow's, 0 unless its definition says otherwise.
            run_timeout_ms: how long the run may take from its first start to its end, ms or a duration text; then it
                fails with kind `timeout`. None is the `timeout_ms` of its workflow.
            durability: how safe the run must be before this returns; None is what its workflow says, where this
                process knows it, else what the client says.

        Raises:
            NotDurableError: the run was started (`run_id`), but nobody confirmed in time that it is that safe.
            DurabilityUnsupportedError: the server can't do that; nothing was written.
            UnknownWorkflowError: nobody registered that name; `near_names` has those that look like it.
            ValueError: the workflow is debounced and its key function returns no key; what it raises is passed on.
            TypeError, ValueError: the input is not JSON; the message names the path.
            ValueError: another argument is none; the message names it.
            PayloadTooLargeError: the input is larger than 4 MiB.
            QueueFullError: Redis is out of memory; nothing was written.
            ConnectionError: Redis can't be reached.
        """
        return await self.run_by_name(
            workflow_name,
            input,
            idempotency_key=idempotency_key,
            idempotency_ttl=idempotency_ttl,
            run_at=run_at,
            parent_run_id=parent_run_id,
            priority=priority,
            run_timeout_ms=run_timeout_ms,
            durability=durability,
        )

    async def run_by_name(
        self,
        workflow_name: str,
        input: object,
        *,
        debounce: ResolvedDebounce | None = None,
        idempotency_key: str | None = None,
        idempotency_ttl: int | None = None,
        run_at: datetime | None = None,
        queue_override: str | None = None,
        max_attempts_override: float | None = None,
        parent_run_id: str | None = None,
        priority: int | None = None,
        run_timeout_ms: float | str | None = None,
        durability: Durability | None = None,
    ) -> RunHandle[JsonData]:
        """Start a run by name, with what a definition would give; see `emit_workflow` for the rest.

        Args:
            workflow_name: with `queue_override` it need not be registered yet: the run waits until it is.
            input: see `emit_workflow`.
            debounce: key and times of the debounce; None means what the definition says, where this process knows it,
                else the first worker that sees the run.
            idempotency_key: see `emit_workflow`.
            idempotency_ttl: see `emit_workflow`.
            run_at: see `emit_workflow`.
            queue_override: the queue, in place of the registered one.
            max_attempts_override: attempts, the first included, in place of the registered number or 3.
            parent_run_id: see `emit_workflow`.
            priority: see `emit_workflow`.
            run_timeout_ms: see `emit_workflow`.
            durability: see `emit_workflow`.
        """
        check_name(workflow_name, what="workflow name")
        if debounce is None:
            debounce = await find_debounce(workflow_name, input, (self._registry, get_default_registry()))
        now_ms = int(time.time() * 1000)
        order = build_order(
            next_run_id(now_ms),
            workflow_name,
            input,
            now_ms=now_ms,
            idempotency_key=idempotency_key,
            idempotency_ttl=idempotency_ttl,
            run_at=run_at,
            queue=queue_override,
            max_attempts=max_attempts_override,
            parent_run_id=parent_run_id,
            priority=priority,
            run_timeout_ms=run_timeout_ms,
            durability=self._durability_of(workflow_name) if durability is None else durability,
        )
        run_id = await self.engine.start_run(order, self.app, checked_debounce(debounce))
        telemetry.emit(telemetry.RUN_CREATED, run_id=run_id, workflow=order.workflow)
        return self.make_run_handle(run_id)

    async def emit_workflows(self, calls: Iterable[WorkflowCall]) -> list[RunHandle[JsonData] | Exception]:
        """Start many runs in one trip to the server.

        One that can't be started takes no other down. Runs of a workflow that is debounced, where this process knows
        its definition, travel one by one beside the others.

        Args:
            calls: at most 1,000.

        Returns:
            For each call, in order, the run's handle, or the exception that `emit_workflow` would have raised.

        Raises:
            LimitExceededError: there are more than 1,000; nothing was started.
            TypeError: one of them is no WorkflowCall; nothing was started.

        Example:
            >>> results = await client.emit_workflows([WorkflowCall("greet", name) for name in names])
            >>> failed = [result for result in results if isinstance(result, Exception)]
        """
        results = await start_many(
            self.engine, self.app, calls, (self._registry, get_default_registry()), self._durability_of
        )
        return [result if isinstance(result, Exception) else self.make_run_handle(result) for result in results]

    # -- runs ---------------------------------------------------------------------------------------------------

    def make_run_handle(self, run_id: str) -> RunHandle[JsonData]:
        """A handle for a run id; nothing is checked."""
        return RunHandle(run_id, self)

    async def wait_for_result(self, run_id: str, *, timeout_ms: float = 30_000) -> JsonData:
        """Wait for a run to end and return its output; see `RunHandle.result`."""
        end = await self.engine.wait_for_end(run_id, _timeout_s(timeout_ms))
        if end is None:
            raise TimeoutError(f"Timed out waiting for run result ({run_id})")
        if end.status == "failed":
            raise _failure(end)
        if end.status == "canceled":
            reason = end.cancel_reason or await self._cancel_reason(run_id)
            raise CanceledError(f"Run canceled: {reason}" if reason else "Run canceled")
        return end.output

    async def cancel_run(self, run_id: str, *, reason: str = "") -> bool:
        """Cancel a run.

        A run that nobody executes is canceled at once. One that runs is asked to stop: its signal is set, its
        handler interrupted; it ends canceled even if it finishes first.

        Args:
            run_id: the run.
            reason: kept as `cancel_reason`, and in the CanceledError of those who wait.

        Returns:
            Whether that changed anything: False for unknown and for ended runs.
        """
        blank = isinstance(reason, str) and not reason.strip()
        changed = await self.engine.cancel_run(run_id, "" if blank else check_key(reason, what="reason"))
        telemetry.emit(telemetry.RUN_CANCEL_REQUESTED, run_id=run_id, changed=changed)
        return changed

    async def get_run(self, run_id: str) -> RunState | None:
        """A run as it is now; None if there is none of that id."""
        return await self.engine.get_run(run_id)

    async def get_run_steps(self, run_id: str) -> list[StepState]:
        """The steps of a run in the order they were first started; [] if there is no such run."""
        return await self.engine.get_run_steps(run_id)

    async def get_step_kinds(self, run_id: str) -> dict[str, StepKind]:
        """Which primitive each step of a run is, by name: run, sleep, event or child; {} if there is no such run."""
        return await self.engine.get_step_kinds(run_id)

    async def get_run_attempts(self, run_id: str) -> list[AttemptTrace]:
        """The finished attempts of a run, each with the steps that finished in it; [] if there is no such run."""
        return await self.engine.get_run_attempts(run_id)

    async def explain_run(self, run_id: str) -> RunExplanation | None:
        """Why a run is where it is: what one that doesn't run waits for, and who is in its way.

        Returns:
            `reason` says it in one sentence; `waits_for`, `until`, `position` and `held_by` are for programs. None if
            there is no run of that id.

        Example:
            >>> explanation = await client.explain_run(run_id)
            >>> explanation["reason"]
            "It is number 2 of 9 in line for the mutex 'user-7', held by run_0198c2d1-…"
        """
        return await self.engine.explain_run(run_id)

    async def list_runs(self, params: ListRunsParams | None = None) -> list[ListedRun]:
        """One page of runs in the order of their creation, newest first unless asked otherwise.

        The cost is that of the page, however many runs there are.

        Args:
            params: filters, cursor, limit (at least 1, default 50) and order. As cursor, the id of the last run of the
                page before is exact; a `created_at` passes over all runs of that millisecond. After a run that is
                gone there is nothing to go on from: [].
        """
        return await self.engine.list_runs(params or ListRunsParams())

    async def search_runs(self, params: SearchRunsParams | None = None) -> SearchRunsResult:
        """Runs that match all conditions, in the order of their creation.

        Args:
            params: `query` is looked for, whatever its case, in id, workflow, queue, status, cancel reason, input,
                output and error. `created_after` and `created_before` are inclusive, epoch ms.

        Returns:
            {"runs", "scanned"}: the page, and how many runs were looked at. `next_cursor` says how to go on, where
            there may be more; `truncated` is True when the search stopped after `scan` runs or 64 MiB. A status, a
            workflow, a range of time and a parent are found by an index; a queue and a text are looked for.
        """
        return await self.engine.search_runs(params or SearchRunsParams())

    # -- events -------------------------------------------------------------------------------------------------

    async def emit_event(
        self,
        event_name: str,
        input: object,
        *,
        correlation_key: str | None = None,
        event_id: str | None = None,
        idempotency_key: str | None = None,
        idempotency_ttl: int | None = None,
        parent_run_id: str | None = None,
    ) -> list[RunHandle[JsonData]]:
        """Emit an event: every workflow that subscribes to it gets a run, every run that waits for it goes on.

        Args:
            event_name: the event's name.
            input: its data, JSON; validated against the contract of its subscribers if they have one.
            correlation_key: wakes the runs that wait for this event and key; without one nobody is woken.
            event_id: an id of your own; the same id with the same data is one event.
            idempotency_key: the same key with the same data is one event, within its TTL.
            idempotency_ttl: how long the key holds, whole seconds; None is 7 days, never longer than the retention.
            parent_run_id: stored with the event and the runs it starts.

        Returns:
            Handles of the runs that were started, in the order of the triggers' ids. What could not be delivered at
            once stays in a durable outbox that any worker carries on.

        Raises:
            ValueError: a blank name, key or id; or the id or key belongs to an event with other data.
            InputValidationError: the data breaks the contract; `issues` says where.
            TypeError, PayloadTooLargeError: the data is not JSON, or larger than 4 MiB.
            NotDurableError: the event was emitted (`event_id`), but nobody confirmed in time that it is as durable as
                the client wants it.
        """
        detailed = await self.emit_event_detailed(
            event_name,
            input,
            correlation_key=correlation_key,
            event_id=event_id,
            idempotency_key=idempotency_key,
            idempotency_ttl=idempotency_ttl,
            parent_run_id=parent_run_id,
        )
        return detailed["handles"]

    async def emit_event_detailed(
        self,
        event_name: str,
        input: object,
        *,
        correlation_key: str | None = None,
        event_id: str | None = None,
        idempotency_key: str | None = None,
        idempotency_ttl: int | None = None,
        parent_run_id: str | None = None,
    ) -> EmittedEvent:
        """Like `emit_event`, and tells the event's id and the runs it woke.

        Args:
            event_name: see `emit_event`.
            input: see `emit_event`.
            correlation_key: see `emit_event`.
            event_id: see `emit_event`.
            idempotency_key: see `emit_event`.
            idempotency_ttl: see `emit_event`.
            parent_run_id: see `emit_event`.

        Returns:
            {"event_id", "handles", "resumed_run_ids"}
        """
        order = build_event(
            event_name,
            input,
            made_id=f"evt_{uuid.uuid4()}",
            correlation_key=correlation_key,
            event_id=event_id,
            idempotency_key=idempotency_key,
            idempotency_ttl=idempotency_ttl,
            parent_run_id=parent_run_id,
        )
        order.durability = self.durability
        emitted = await accept_event(self.engine, order)
        return {
            "event_id": emitted.event_id,
            "handles": [self.make_run_handle(run_id) for run_id in emitted.run_ids],
            "resumed_run_ids": emitted.resumed_run_ids,
        }

    async def get_event(self, event_id: str) -> EventRecord | None:
        """An event with its data and deliveries; None if there is none of that id."""
        return await self.engine.get_event(event_id)

    async def list_events(self, params: ListEventsParams | None = None) -> list[ListedEvent]:
        """One page of events, newest first unless asked otherwise.

        Args:
            params: filters, order, limit, and as cursor the id of the last event of the page before; after an event
                that is gone there is nothing to go on from: [].
        """
        return await self.engine.list_events(params or ListEventsParams())

    async def list_event_definitions(self) -> list[EventDefinition]:
        """Events with subscribers, by name, with the contract of their data if they have one."""
        return await self.engine.list_event_definitions()

    async def cleanup_expired_events_now(
        self, *, reference_time_ms: int | None = None, limit: int | None = None
    ) -> int:
        """Remove ended events whose retention is over; workers do it by themselves.

        Args:
            reference_time_ms: what counts as now, epoch ms; None is the server's time.
            limit: how many at most, at least 1; None is 100.

        Returns:
            How many events were removed.
        """
        return await self.engine.cleanup_expired_events(reference_time_ms, _purge_limit(limit))

    # -- workflows ----------------------------------------------------------------------------------------------

    async def sync_registry(self, registry: WorkflowRegistry, *, app: str) -> None:
        """Make Redis know exactly the workflows of a registry; workers do it at their start.

        Raises:
            ValueError: `app` is blank, a workflow belongs to another live app, or an option isn't served.
        """
        self._registry = registry
        await self.engine.sync_registry(registry.list(), checked_app(app, "sync_registry"))

    async def list_workflows(self) -> list[str]:
        """Names of the registered workflows, in no order."""
        return await self.engine.list_workflows()

    async def get_workflow_meta(self, name: str) -> WorkflowMeta | None:
        """What is registered of a workflow; None if nothing is."""
        return await self.engine.get_workflow_meta(name)

    async def list_workflows_meta(self) -> list[WorkflowMeta]:
        """What is registered of all workflows, by name."""
        return await self.engine.list_workflows_meta()

    async def get_stats(self) -> RunStats:
        """How many runs there are, in all and by status."""
        return await self.engine.get_stats()

    async def doctor(self) -> DoctorReport:
        """Examine the server: what would be lost if it died now, and what should be put right.

        Asks INFO and CONFIG where this user may; what it may not ask stands in `unseen`. Which commands it may use is
        tried on a key of its own, which is gone when that is done.

        Raises:
            ConnectionError, ServerTooOldError: the server can't be used at all.

        Example:
            >>> report = await client.doctor()
            >>> report["losses"]["server process dies"]
            'nothing, as long as the disk keeps up with the log; else what it had not taken yet'
        """
        return await self.engine.doctor()

    # -- retention and reset ------------------------------------------------------------------------------------

    async def cleanup_expired_runs_now(self, *, reference_time_ms: int | None = None, limit: int | None = None) -> int:
        """Remove finished runs whose retention is over; workers do it by themselves.

        Args:
            reference_time_ms: what counts as now, epoch ms; None is the server's time.
            limit: how many at most, at least 1; None is 100.

        Returns:
            How many runs were removed.
        """
        return await self.engine.cleanup_expired_runs(reference_time_ms, _purge_limit(limit))

    async def reset_state(self) -> dict[str, int]:
        """Remove every key under exactly this prefix.

        Returns:
            {"deleted": number of keys}

        Raises:
            ValueError: the prefix is empty.
        """
        self._refuse_empty_prefix("reset_state")
        return {"deleted": await self.engine.reset_state()}

    async def reset_runs(self) -> dict[str, int]:
        """Remove everything but workflow metadata, cron and event triggers with their contracts, and idempotency keys.

        Returns:
            {"deleted": number of keys}

        Raises:
            ValueError: the prefix is empty.
        """
        self._refuse_empty_prefix("reset_runs")
        return {"deleted": await self.engine.reset_runs()}

    def _durability_of(self, workflow: str) -> Durability:
        """How safe a new run of a workflow must be: what the first definition of that name says, else the client."""
        for registry in (self._registry, get_default_registry()):
            definition = registry.get(workflow) if registry is not None else None
            if definition is not None:
                own = definition.options.durability
                return self.durability if own is None else own
        return self.durability

    def _refuse_empty_prefix(self, what: str) -> None:
        if not self.prefix.rstrip(":"):
            raise ValueError(f"{what} needs a prefix that is not empty")

    async def _cancel_reason(self, run_id: str) -> str:
        state = await self.get_run(run_id)
        return state.get("cancel_reason", "") if state is not None else ""

    def __repr__(self) -> str:
        return f"<RedflowClient {self.connection.address} prefix={self.prefix!r}>"


def is_terminal_status(status: str) -> bool:
    """Whether a status is final: succeeded, failed or canceled."""
    return status in TERMINAL_STATUSES


def compute_retry_delay_ms(attempt: int) -> int:
    """The default delay after a failed attempt, ms, with its random part."""
    return backoff_ms(attempt, random.randint(0, MAX_JITTER_MS))


def checked_app(app: object, what: str) -> str:
    """An app's name, stripped.

    Raises:
        ValueError: it is blank.
    """
    if not isinstance(app, str) or not app.strip():
        raise ValueError(f"{what} requires a non-empty app, got {app!r}")
    return check_name(app.strip(), what="app")


def _failure(end: RunEnd) -> RedflowError:
    error = run_failure(end.error)
    error.error = end.error
    return error


def _purge_limit(limit: int | None) -> int:
    return max(1, 100 if limit is None else int(limit))


def _timeout_s(timeout_ms: float) -> float:
    if isinstance(timeout_ms, bool) or not isinstance(timeout_ms, int | float) or math.isnan(timeout_ms):
        raise ValueError(f"timeout_ms must be a number of milliseconds, got {timeout_ms!r}")
    return max(0.0, timeout_ms) / 1000


def _codec_from_environment() -> PayloadCodec | None:
    """The codec that the environment asks for; None: it asks for none."""
    given = config.codec_keys()
    return None if given is None else AesGcmCodec.from_json(*given)

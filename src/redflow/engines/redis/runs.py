"""The verbs of a run's life, one method a script. Arguments go out flat, replies come back typed."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from redflow.domain.payload import pack
from redflow.domain.run import MAX_NESTING, RunOrder
from redflow.domain.sealing import Vault
from redflow.engines.redis.connection import Connection
from redflow.engines.redis.keys import Keys
from redflow.engines.redis.link import Argument
from redflow.engines.redis.replies import (
    Reply,
    as_bytes,
    as_fields,
    as_int,
    as_list,
    as_pairs,
    as_reasons,
    as_text,
    time_or_none,
)
from redflow.engines.redis.scripts import verb
from redflow.types import Durability

CREATE = verb(
    "create_runs",
    args="now, client_app",
    item="id, workflow, queue, max_attempts, input, run_at, key, ttl, priority, run_timeout, parent",
)
CLAIM = verb("claim_runs", args="now, worker, token, lease_ms, want, retention, queue_count", item="queue")
RECORD = verb("record_steps", item="id, fence, token, field, header, payload")
CONFIRM = verb("confirm_step", args="id, fence, token, field")
SETTLE = verb(
    "settle_runs",
    args="now, worker, retention, idle, queue_count",
    item="id, fence, token, outcome, payload, due, trace_field, trace, step_count, wait_count",
)
DECIDE = verb("decide_failure", args="id, fence, token, error")
RELEASE = verb("release_runs", args="now, retention", item="id, fence, token")
RENEW = verb("renew_leases", args="now, worker, lease_ms, alive_ms", item="id, fence, token")
RECOVER = verb("recover_runs", args="now, limit, poison_error, retention, not_after")
TIME_OUT = verb("time_out_runs", args="now, limit, retention")
PROMOTE = verb("promote_runs", args="now, limit")
CANCEL = verb("cancel_run", args="now, id, reason, retention, operation")
START_CHILDREN = verb(
    "start_children",
    args="now, client_app, max_depth",
    item="parent, fence, token, field, header, generation, awaited, id, workflow, queue, max_attempts, input, run_at, "
    "key, ttl, priority, run_timeout",
)
CANCEL_CHILDREN = verb("cancel_children", args="now, limit, retention")
PURGE = verb("purge_runs", args="now, limit")
FAIL_STRAYS = verb("fail_strays", args="now, queue, workflow, patience_ms, limit, error, retention")
PASS_BELL = verb("pass_bell", args="worker", item="queue")

_FRESH = (b"w", b"c", b"q", b"m", b"i", b"t")
"""The fields of a run that is claimed for the first time, as the script answers them."""

LEASE_CHUNK = 200
"""How many leases one call renews or gives back at most: a script must not stop the server for long."""

CASCADE_CHUNK = 50
"""How many children one call cancels at most: each costs several times what a renewal does."""

SERVER_TIME = ""
"""What goes in the place of `now`: the script takes the server's clock. Tests pass a time."""


@dataclass(slots=True)
class Lease:
    """The right to write to a run: refused as stale as soon as another claim has happened.

    Attributes:
        run_id: stored id of the run.
        fence: how often the run was claimed, this claim included.
        token: random part of this claim.
        good_until: until when the holder may begin new work, by its own monotonic clock, seconds. Counted from
            before the call that prolonged the lease was sent, so the lease can't have run out by then.
    """

    run_id: str
    fence: int
    token: str
    good_until: float = math.inf


@dataclass(slots=True)
class ClaimedRun:
    """One run of a claim: its lease, the number of the attempt, and its record."""

    lease: Lease
    attempt: int
    record: dict[bytes, bytes]


@dataclass(slots=True)
class ClaimReply:
    """What a claim brought: runs, the server's time, and the next times something falls due."""

    now: int
    next_due: int | None
    next_lease: int | None
    more: bool
    runs: list[ClaimedRun]
    drain: str = ""
    """What a worker that shall claim nothing more is to do in the end: idle or stop."""


@dataclass(slots=True)
class StepWrite:
    """One step to be written under a lease: field, packed header and payload."""

    lease: Lease
    field: str
    header: str
    payload: bytes


@dataclass(slots=True)
class Settlement:
    """The end of an attempt as the script takes it.

    Attributes:
        told: called with the script's reason ('' for most), or with what went wrong.
    """

    lease: Lease
    outcome: str
    payload: bytes
    due: int | None
    trace_field: str
    trace: bytes
    steps: Sequence[StepWrite]
    waits: Sequence[str] = ()
    told: Callable[[str | Exception], None] | None = None


@dataclass(slots=True)
class ChildStart:
    """A run to be started for a step: the parent's lease, the step as it is to be written, and the order.

    Attributes:
        lease: of the parent.
        field: the step's field.
        header: the step's packed header: open if the child is awaited, else ended.
        generation: which child of this step it is.
        awaited: whether the step stays open until the child ends.
        order: the child.
    """

    lease: Lease
    field: str
    header: str
    generation: int
    awaited: bool
    order: RunOrder


class RunScripts:
    """The scripts of one prefix on one connection.

    Args:
        connection: where they run.
        keys: the keys of the prefix.
        retention_ms: how long finished runs are kept.
        now: SERVER_TIME, or a time for tests, ms.
        vault: encrypts inputs and blinds keys; None: nothing does.
    """

    def __init__(
        self,
        connection: Connection,
        keys: Keys,
        retention_ms: int,
        now: str | int = SERVER_TIME,
        vault: Vault | None = None,
    ) -> None:
        self.connection = connection
        self.keys = keys
        self.retention_ms = retention_ms
        self.now = now
        self.vault = vault

    def on(self, connection: Connection) -> RunScripts:
        """The same scripts over another connection."""
        return RunScripts(connection, self.keys, self.retention_ms, self.now, self.vault)

    def create(self, orders: Sequence[RunOrder], client_app: str | None) -> Awaitable[list[tuple[str, str]]]:
        """Accept runs; per order (code, stored run id), see the script."""
        args = self._create_args(orders, client_app)
        return _created(self.connection.call(CREATE, self.keys.base, args, at_once=True))

    async def create_durably(
        self, orders: Sequence[RunOrder], client_app: str | None, durability: Durability
    ) -> tuple[list[tuple[str, str]], bool]:
        """As `create`, and wait until they are safe; the codes and whether that was confirmed."""
        args = self._create_args(orders, client_app)
        reply, confirmed = await self.connection.call_durably(CREATE, self.keys.base, args, durability)
        return as_pairs(reply), confirmed

    def _create_args(self, orders: Sequence[RunOrder], client_app: str | None) -> list[Argument]:
        args: list[Argument] = [self.now, client_app or ""]
        for order in orders:
            args += order_args(order, self.vault)
        return args

    def claim(
        self, worker: str, token: str, lease_ms: int, want: int, queues: Sequence[str]
    ) -> Awaitable[ClaimReply | None]:
        """Take up to `want` runs; None when the worker has to register first."""
        args = [self.now, worker, token, lease_ms, want, self.retention_ms, len(queues), *queues]
        return _claim(self.connection.call(CLAIM, self.keys.base, args, at_once=True), token)

    def record(self, writes: Sequence[StepWrite]) -> Awaitable[dict[int, str]]:
        """Make steps durable; index -> reason for those that were not plain."""
        return _reasons(self.connection.call(RECORD, self.keys.base, _step_args(writes), at_once=True))

    async def record_durably(self, writes: Sequence[StepWrite], durability: Durability) -> tuple[dict[int, str], bool]:
        """As `record`, and wait until they are safe; the reasons and whether that was confirmed."""
        args = _step_args(writes)
        reply, confirmed = await self.connection.call_durably(RECORD, self.keys.base, args, durability)
        return as_reasons(as_list(reply)), confirmed

    async def confirm_step(self, lease: Lease, field: str, durability: Durability) -> tuple[str, bool]:
        """Wait until a step that is recorded is safe; the script's answer, and whether that was confirmed."""
        args = (lease.run_id, lease.fence, lease.token, field)
        reply, confirmed = await self.connection.call_durably(CONFIRM, self.keys.base, args, durability)
        return as_text(reply), confirmed

    def settle(
        self, items: Sequence[Settlement], worker: str, queues: Sequence[str], *, idle: bool
    ) -> Awaitable[tuple[bool, dict[int, str]]]:
        """End attempts; whether a queue of the worker has a ready run, and index -> reason."""
        args: list[Argument] = [self.now, worker, self.retention_ms, "1" if idle else "", len(queues), *queues]
        for item in items:
            lease = item.lease
            args += (
                lease.run_id,
                lease.fence,
                lease.token,
                item.outcome,
                item.payload,
                "" if item.due is None else item.due,
                item.trace_field,
                item.trace,
                len(item.steps),
                len(item.waits),
            )
            for step in item.steps:
                args += (step.field, step.header, step.payload)
            args += item.waits
        return _settled(self.connection.call(SETTLE, self.keys.base, args, at_once=True))

    async def decide_failure(self, lease: Lease, error_json: bytes) -> str:
        """Record that a run fails before its on_failure is called; the script's answer."""
        args = (lease.run_id, lease.fence, lease.token, error_json)
        return as_text(await self.connection.call(DECIDE, self.keys.base, args))

    async def release(self, leases: Sequence[Lease], *, patience_s: float | None = None) -> int:
        """Hand runs back; how many were still ours."""
        count = 0
        for some in _chunks(leases):
            args = (self.now, self.retention_ms, *_lease_args(some))
            count += as_int(await self.connection.call(RELEASE, self.keys.base, args, patience_s=patience_s))
        return count

    async def renew(
        self, worker: str, lease_ms: int, alive_ms: int, leases: Sequence[Lease], *, patience_s: float
    ) -> tuple[int, int, dict[int, str]] | None:
        """Heartbeat: (server's time, epoch, index -> lost | cancel | timeout); None: register again."""
        reasons: dict[int, str] = {}
        now: Reply = None
        epoch: Reply = None
        for number, some in enumerate(_chunks(leases) or [[]]):  # without a lease it says that the worker lives
            args = (self.now, worker, lease_ms, alive_ms, *_lease_args(some))
            reply = await self.connection.call(RENEW, self.keys.base, args, patience_s=patience_s)
            if not isinstance(reply, list):
                return None
            now, epoch, *flat = reply
            reasons |= {number * LEASE_CHUNK + index: reason for index, reason in as_reasons(flat).items()}
        return as_int(now), as_int(epoch), reasons

    async def recover(
        self, limit: int, poison_error: bytes, not_after: int | None = None
    ) -> tuple[int, int | None, int, int]:
        """Take runs from dead holders, unless it is past `not_after` (server's time, ms) by then.

        Returns:
            (server's time, end of the next lease, recovered, poisoned)
        """
        args = (self.now, limit, poison_error, self.retention_ms, "" if not_after is None else not_after)
        now, lease, recovered, poisoned = as_list(await self.connection.call(RECOVER, self.keys.base, args))
        return as_int(now), time_or_none(lease), as_int(recovered), as_int(poisoned)

    async def promote(self, limit: int) -> tuple[int, int | None, int]:
        """Move due runs to their queues: (server's time, next due time, how many)."""
        now, due, count = as_list(await self.connection.call(PROMOTE, self.keys.base, (self.now, limit)))
        return as_int(now), time_or_none(due), as_int(count)

    async def time_out(self, limit: int) -> tuple[int, int | None, int]:
        """Fail runs whose time-out has passed: (server's time, next due time, how many)."""
        args = (self.now, limit, self.retention_ms)
        now, due, count = as_list(await self.connection.call(TIME_OUT, self.keys.base, args))
        return as_int(now), time_or_none(due), as_int(count)

    async def cancel(self, run_id: str, reason: str) -> str:
        """Cancel one run; the script's answer. Its children are left to whoever carries cancels on."""
        return (await self.cancel_tree(run_id, reason))[0]

    async def cancel_tree(self, run_id: str, reason: str, operation: str = "") -> tuple[str, bool]:
        """Cancel one run; the script's answer, and whether children are to follow by `cancel_children`.

        With the id of an operation the call answers the same when it is sent again, its reply lost.
        """
        args = (self.now, run_id, reason, self.retention_ms, operation)
        answer, cascade = as_list(await self.connection.call(CANCEL, self.keys.base, args))
        return as_text(answer), cascade == 1

    async def cancel_children(self, limit: int) -> tuple[int, bool]:
        """Carry cancels on down the tree: (runs canceled or asked to stop, whether some are left)."""
        args = (self.now, limit, self.retention_ms)
        count, more = as_list(await self.connection.call(CANCEL_CHILDREN, self.keys.base, args))
        return as_int(count), more == 1

    async def carry_cancels_on(self) -> None:
        """Carry cancels on until none is left."""
        cascade = True
        while cascade:
            _count, cascade = await self.cancel_children(CASCADE_CHUNK)

    async def start_children(self, starts: Sequence[ChildStart], client_app: str | None) -> list[tuple[str, str]]:
        """Start runs for steps of running parents; per item (code, stored id), see the script."""
        args: list[Argument] = [self.now, client_app or "", MAX_NESTING]
        for start in starts:
            lease, order = start.lease, start.order
            args += (lease.run_id, lease.fence, lease.token, start.field, start.header, start.generation)
            args += ("1" if start.awaited else "", *order_args(order, self.vault)[:-1])
        return as_pairs(await self.connection.call(START_CHILDREN, self.keys.base, args))

    async def purge(self, reference_ms: int | None, limit: int) -> int:
        """Remove finished runs whose retention is over; how many."""
        now = self.now if reference_ms is None else reference_ms
        return as_int(await self.connection.call(PURGE, self.keys.base, (now, limit)))

    async def fail_strays(
        self, queue: str | bytes, workflow: str | bytes, patience_ms: int, limit: int, error: bytes
    ) -> int:
        """Fail runs that nobody knows any more; how many."""
        args = (self.now, queue, workflow, patience_ms, limit, error, self.retention_ms)
        return as_int(await self.connection.call(FAIL_STRAYS, self.keys.base, args))

    async def pass_bell(self, worker: str, queues: Sequence[str]) -> None:
        """Ring the next idle worker in place of this one."""
        await self.connection.call(PASS_BELL, self.keys.base, (worker, *queues))


def order_args(order: RunOrder, vault: Vault | None) -> tuple[Argument, ...]:
    """An order as the scripts take it."""
    payload, key = pack(order.input_json), order.idempotency_key
    if vault is not None:
        payload = vault.seal_input(payload, order.run_id)
        key = None if key is None else vault.blind("idempotency", key)
    return (
        order.run_id,
        order.workflow,
        "" if order.queue is None else "=" + order.queue,
        "" if order.max_attempts is None else order.max_attempts,
        payload,
        "" if order.run_at_ms is None else order.run_at_ms,
        "" if key is None else "=" + key,
        order.idempotency_ttl_s,
        "" if order.priority is None else order.priority,
        "" if order.run_timeout_ms is None else order.run_timeout_ms,
        order.parent_run_id or "",
    )


async def _claim(reply: Awaitable[Reply], token: str) -> ClaimReply | None:
    answer = await reply
    if not isinstance(answer, list):
        return None
    now, due, lease, more, *runs = answer
    drain = more.decode() if isinstance(more, bytes) else ""
    claimed = [_claimed(run, token) for run in runs]
    return ClaimReply(as_int(now), time_or_none(due), time_or_none(lease), more == 1, claimed, drain)


async def _created(reply: Awaitable[Reply]) -> list[tuple[str, str]]:
    return as_pairs(await reply)


def _step_args(writes: Sequence[StepWrite]) -> list[Argument]:
    args: list[Argument] = []
    for write in writes:
        args += (write.lease.run_id, write.lease.fence, write.lease.token, write.field, write.header, write.payload)
    return args


async def _reasons(reply: Awaitable[Reply]) -> dict[int, str]:
    return as_reasons(as_list(await reply))


async def _settled(reply: Awaitable[Reply]) -> tuple[bool, dict[int, str]]:
    more, *flat = as_list(await reply)
    return more == 1, as_reasons(flat)


def _chunks(leases: Sequence[Lease]) -> list[Sequence[Lease]]:
    return [leases[first : first + LEASE_CHUNK] for first in range(0, len(leases), LEASE_CHUNK)]


def _lease_args(leases: Sequence[Lease]) -> list[Argument]:
    return [arg for lease in leases for arg in (lease.run_id, lease.fence, lease.token)]


def _claimed(reply: Reply, token: str) -> ClaimedRun:
    run_id, fence, attempt, *rest = as_list(reply)
    record = as_fields(rest[0]) if len(rest) == 1 else dict(zip(_FRESH, map(as_bytes, rest), strict=True))
    return ClaimedRun(Lease(as_text(run_id), as_int(fence), token), as_int(attempt), record)

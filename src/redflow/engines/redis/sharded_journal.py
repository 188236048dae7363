"""The journal of an attempt in a prefix of several shards: the steps and gates that reach for another shard.

What an attempt does on its own shard is one script, as ever. Across shards the other side comes first (the child is
created, the wait is registered), then the step is written: what comes for a step in between is kept for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from redflow.domain.event import EventRef, event_ref
from redflow.domain.run import MAX_NESTING, RunOrder, public_run_id
from redflow.domain.shards import on_shard, shard_of_name, shard_of_run
from redflow.domain.step import FIELD_PREFIX, ChildRef, StepRecord, pack_header
from redflow.engines.redis import admission
from redflow.engines.redis.clock import ServerClock
from redflow.engines.redis.events import Events
from redflow.engines.redis.journal import INTERRUPTIONS, IdleMark, JournalWriter, RedisJournal
from redflow.engines.redis.link import Argument
from redflow.engines.redis.outgoing import Outgoing
from redflow.engines.redis.replies import Reply, as_int, as_list, as_text
from redflow.engines.redis.runs import Lease, RunScripts, order_args
from redflow.engines.redis.scripts import Script, verb
from redflow.errors import ConnectionError, LimitExceededError, UnknownWorkflowError
from redflow.execution.admission import Admission, AdmissionRequest
from redflow.execution.journal import Interruption, LeaseLost, StartRefused

log = logging.getLogger("redflow")

CHECK = verb("check_claim", args="id, fence, token, place")
START_AWAY = verb(
    "start_away",
    args="now, client_app, awaiter, depth, id, workflow, queue, max_attempts, input, run_at, key, ttl, priority, "
    "run_timeout, parent",
)
ATTACH_CHILD = verb("attach_child", args="parent, fence, token, field, header, generation, awaited, child, kind")
REGISTER_WAIT = verb("register_wait", args="now, run, field, event, correlation_key, deadline, created, received")
ATTACH_WAIT = verb("attach_wait", args="id, fence, token, field, header, event, correlation_key, deadline")
DROP_WAIT = verb("drop_wait", args="run, field, event, correlation_key")
NOTE_LOCK = verb("note_lock", args="now, id, fence, token, first, mutex, number, granted")

_LOOK_AGAIN_S: Final = 0.02


class ShardedWriter(JournalWriter):
    """What the journals of a worker's runs on one shard share.

    Args:
        shards: the scripts of each shard.
        outgoing: what crosses shards.
        shard: the one of these runs. For the rest see `JournalWriter`.
    """

    def __init__(
        self,
        shards: list[RunScripts],
        outgoing: Outgoing,
        shard: int,
        events: Events,
        clock: ServerClock,
        worker: str,
        queues: list[str],
        on_interrupt: Callable[[str, Interruption], None],
        wants_idle_mark: IdleMark,
        on_settling: Callable[[list[str]], None],
        on_settled: Callable[[bool], None],
    ) -> None:
        super().__init__(
            shards[shard], events, clock, worker, queues, on_interrupt, wants_idle_mark, on_settling, on_settled
        )
        self.shards = shards
        self.outgoing = outgoing
        self.shard = shard

    def journal(self, lease: Lease, created_at: int, queue: str) -> RedisJournal:
        """A journal for one attempt of a run of a queue."""
        return ShardedJournal(self, lease, created_at, queue)


class ShardedJournal(RedisJournal):
    """Journal and settler of one attempt; see `RedisJournal`."""

    __slots__ = ("_queue", "_sharded")

    def __init__(self, writer: ShardedWriter, lease: Lease, created_at: int, queue: str) -> None:
        super().__init__(writer, lease, created_at)
        self._sharded = writer
        self._queue = queue

    # -- children -----------------------------------------------------------------------------------------------

    async def start_child(self, step: StepRecord, order: RunOrder, generation: int, *, awaited: bool) -> StepRecord:
        """Start a run for a step and write the step: in one trip, or, on another shard, one after the other."""
        shard = shard_of_name(order.workflow, len(self._sharded.shards))
        order.run_id = on_shard(order.run_id, shard)
        if shard == self._sharded.shard:
            return await super().start_child(step, order, generation, awaited=awaited)
        written = step if awaited else step.finished("succeeded", self.now_ms(), step.attempt, b"")
        field = FIELD_PREFIX + step.name
        depth, _ = await self._check("", f"the start of step {step.name!r}")
        if depth + 1 > MAX_NESTING:
            raise LimitExceededError(
                f"step {step.name!r} nests children too deep: at most {MAX_NESTING} levels, got {MAX_NESTING + 1}"
            )
        scripts, lease = self._sharded.shards[shard], self._lease
        awaiter = f"{lease.run_id} {field}" if awaited else ""
        args = (scripts.now, "", awaiter, depth + 1, *order_args(order, scripts.vault))
        code, child = map(as_text, as_list(await self._ask(scripts, START_AWAY, args)))
        if code == "unknown_workflow":
            raise UnknownWorkflowError(order.workflow)
        kind = "own" if code == "created" else "foreign"
        attach = (
            *(lease.run_id, lease.fence, lease.token, field, pack_header(written, self._created_at)),
            *(generation, "1" if awaited else "", child, kind),
        )
        answer = as_text(await self._ask(self._sharded.scripts, ATTACH_CHILD, attach))
        self._refuse(answer, ("open", "found"), f"the start of step {step.name!r}")
        if not awaited:
            written.payload = f'"{public_run_id(child)}"'.encode()
            return written
        if answer == "found" or kind == "foreign":
            return await self.reload(step)
        written.payload = ChildRef("-", child, generation, True).packed()
        return written

    async def cancel_child(self, run_id: str, reason: str) -> None:
        """Cancel a run and all below it."""
        shard = shard_of_run(run_id)
        _answer, cascade = await self._sharded.shards[shard].cancel_tree(run_id, reason)
        if cascade:
            await self._sharded.outgoing.carry_cancels_on(shard)

    # -- events -------------------------------------------------------------------------------------------------

    async def open_wait(self, step: StepRecord, ref: EventRef) -> StepRecord:
        """Begin to wait for an event: at home, then in the step."""
        if self._sharded.shard == 0:
            return await super().open_wait(step, ref)
        field, lease, home = FIELD_PREFIX + step.name, self._lease, self._sharded.shards[0]
        what = f"the wait of step {step.name!r}"
        _, received = await self._check(f"{len(ref.event.encode())}:{ref.event}:{ref.correlation_key}", what)
        wait = (ref.event, ref.correlation_key, ref.deadline)
        args = (home.now, lease.run_id, field, *wait, self._created_at, received)
        given = as_text(await self._ask(home, REGISTER_WAIT, args)) == "given"
        header = pack_header(step, self._created_at)
        attach = (lease.run_id, lease.fence, lease.token, field, header, *wait)
        answer = as_text(await self._ask(self._sharded.scripts, ATTACH_WAIT, attach))
        self._refuse(answer, ("open", "found"), what)
        if answer == "open" and given:
            await self._sharded.outgoing.try_to_deliver(0)
        if answer == "found" or given:
            return await self.reload(step)
        step.payload = ref.packed()
        return step

    async def close_wait(self, step: StepRecord, ref: EventRef) -> bool:
        """End a wait whose time is over: home decides whether an event came first, and what it sent is waited for."""
        if self._sharded.shard == 0:
            return await super().close_wait(step, ref)
        home = self._sharded.shards[0]
        args = (self._lease.run_id, FIELD_PREFIX + step.name, ref.event, ref.correlation_key)
        while True:
            answer = as_text(await home.connection.call(DROP_WAIT, home.keys.base, args))
            if answer == "closed":
                return True
            if event_ref((await self.reload(step)).payload).end == "E":
                return False
            if answer == "unknown":
                return True
            await self._sharded.outgoing.try_to_deliver(0)
            await asyncio.sleep(_LOOK_AGAIN_S)

    # -- gates --------------------------------------------------------------------------------------------------

    async def admit(self, request: AdmissionRequest) -> Admission:
        """Let the run pass its gates: the lock of its mutex first, then those of its own shard."""
        if not request.mutex:
            return await super().admit(request)
        vault = self._sharded.scripts.vault
        if vault is not None:
            request = admission.blinded(request, vault)
        assert request.mutex
        # Shielded: an answer of the lock that nobody wrote down would keep everybody out until the next audit.
        ask = self._ask_lock(request.mutex, request.first)
        asked: asyncio.Future[str] = asyncio.get_running_loop().create_task(ask)
        self._watch(asked)
        answer = await asyncio.shield(asked)
        if answer != "held":
            return Admission(answer, self.now_ms(), 0)
        return await admission.admit_blinded(self._sharded.scripts, self._lease, request)

    async def _ask_lock(self, mutex: str, first: bool) -> str:
        """Ask for a mutex and write down what came of it; what can't be written down any more is given back."""
        lease, scripts, locks = self._lease, self._sharded.scripts, self._sharded.outgoing.locks
        score = self._created_at if first else self.now_ms()
        try:
            granted, number = await locks.request(lease.run_id, mutex, self._queue, score)
            args = (
                *(scripts.now, lease.run_id, lease.fence, lease.token, "1" if first else ""),
                *(mutex, number, "1" if granted else ""),
            )
            answer = as_text(await scripts.connection.call(NOTE_LOCK, scripts.keys.base, args))
        except ConnectionError as exc:
            raise LeaseLost(str(exc)) from exc
        # Only this claim knows the number of what was granted. A place in line may be another claim's by now.
        if answer == "canceled" or (granted and answer != "held"):
            try:
                await locks.release(lease.run_id, mutex, number)
            except ConnectionError as exc:
                log.debug("the mutex of run %s is left to an audit: %s", lease.run_id, exc)
        if answer in ("stale", "gone"):
            raise LeaseLost(f"the admission was refused: {answer}")
        return answer

    # -- what they have in common -------------------------------------------------------------------------------

    async def _check(self, place: str, what: str) -> tuple[int, str]:
        """Whether the run is still ours and goes on: (its depth, number of the last event that it got at a place)."""
        for noted in self._take_notes():
            self._send(noted)
        args = (self._lease.run_id, self._lease.fence, self._lease.token, place)
        code, depth, received = as_list(await self._ask(self._sharded.scripts, CHECK, args))
        self._refuse(as_text(code), ("ok",), what)
        return as_int(depth), as_text(received)

    async def _ask(self, scripts: RunScripts, script: Script, args: tuple[Argument, ...]) -> Reply:
        try:
            return await scripts.connection.call(script, scripts.keys.base, args)
        except ConnectionError as exc:
            raise LeaseLost(str(exc)) from exc

    def _refuse(self, answer: str, fine: tuple[str, ...], what: str) -> None:
        if answer in INTERRUPTIONS:
            raise StartRefused(INTERRUPTIONS[answer])
        if answer not in fine:
            raise LeaseLost(f"{what} was refused: {answer}")

"""One game of the model: calls of verbs made in both worlds, with their replies compared."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import ClassVar, Final, TypeVar

from redflow.domain.run import RunOrder, public_run_id
from redflow.engine_operations import PauseKind
from redflow.engines.redis.crons import Crons
from redflow.engines.redis.definitions import Definitions
from redflow.engines.redis.listing import Listing
from redflow.engines.redis.operations import RedisOperations
from redflow.engines.redis.operations_base import Place
from redflow.engines.redis.queries import Queries
from redflow.engines.redis.runs import Lease, Settlement, StepWrite
from tests.model.model import Model
from tests.model.render import render
from tests.support.invariants import check_invariants
from tests.support.scripts import BIG, LEASE_MS, T0, Bench, changes, run_id, settlement

T = TypeVar("T")

ALIVE_MS: Final = 100_000
PATIENCE_MS: Final = 600_000
QUIET_MS: Final = 30_000
POISON: Final = b'{"kind":"poison"}'
WORKERS: Final = {"w1": ("a", "b"), "w2": ("a", "new"), "w3": ("b",)}
"""Which workflows each worker can run."""
PAYLOADS: Final = {"one": b"1", "error": b'{"message":"no"}', "long": b"2" * 200, "big": BIG}


class Life:
    """A server and a model that are told the same.

    Args:
        url: of a server of its own; everything on it is removed.

    Attributes:
        leases: every lease there ever was.
        seen: what was answered, over all games: a guard against games in which nothing happens.
    """

    seen: ClassVar[Counter[str]] = Counter()

    def __init__(self, url: str) -> None:
        self.runner = asyncio.Runner()
        self.bench = self.runner.run(self._open(url))
        self.model = Model(T0)
        self.leases: list[Lease] = []
        self.made = 0
        self.claims = 0

    async def _open(self, url: str) -> Bench:
        bench = Bench(url, "model")
        await bench.read("FLUSHALL")
        return bench

    def close(self) -> None:
        """Close what was opened."""
        self.runner.run(self.bench.close(check=False))
        self.runner.close()

    def compare(self) -> None:
        """Redis holds exactly what the model says, and no rule is broken."""
        real, true = self.runner.run(self.bench.values()), render(self.model)
        unlike = [f"{name}: is {real.get(name)}, should be {true.get(name)}" for name in changes(true, real)]
        assert not unlike, "\n".join(unlike)[:20_000]
        self.runner.run(check_invariants(self.bench.connection, self.bench.prefix, lowered=self.model.lowered))

    def both(self, verb: str, real: Callable[[], Awaitable[T]], model: Callable[[], T], again: bool) -> None:
        """Make a call in both worlds, maybe twice; the replies must be the same."""
        for _ in range(2 if again else 1):
            answer = model()
            assert self.runner.run(_awaited(real)) == answer
            self.seen.update(f"{verb}: {what}" for what in _told(answer))

    # -- workers and workflows ----------------------------------------------------------------------------------

    def register_workflow(
        self, name: str, limit: int | None, version: int | None, app: str, again: bool, hook: bool = False
    ) -> None:
        """Register a workflow, or change its limit."""
        bench, model = self.bench, self.model
        self.both(
            "register_workflow",
            lambda: bench.register_workflow(name, app=app, max_concurrency=limit, version=version, on_failure=hook),
            lambda: model.register_workflow(name, app, "q", limit, version, hook),
            again,
        )

    def remove_workflows(self, kept: tuple[str, ...], app: str, again: bool) -> None:
        """An app syncs a registry with these workflows only."""

        async def remove() -> list[str]:
            return sorted(await self.bench.remove_workflows(*kept, app=app, quiet_ms=QUIET_MS))

        self.both("remove_workflows", remove, lambda: sorted(self.model.remove_workflows(app, kept, QUIET_MS)), again)

    def register_worker(self, worker: str, app: str, again: bool) -> None:
        """A worker starts, or registers again."""
        knows = WORKERS[worker]
        self.both(
            "register_worker",
            lambda: self.bench.register_worker(*knows, worker=worker, app=app, alive_ms=ALIVE_MS),
            lambda: self.model.register_worker(worker, knows, app, ALIVE_MS),
            again,
        )

    def unregister_worker(self, worker: str, queues: tuple[str, ...], again: bool) -> None:
        """A worker stops."""
        self.both(
            "unregister_worker",
            lambda: self.bench.unregister_worker(*queues, worker=worker, quiet_ms=QUIET_MS),
            lambda: self.model.unregister_worker(worker, queues),
            again,
        )

    # -- creating and claiming ----------------------------------------------------------------------------------

    def create(
        self,
        workflow: str,
        queue: str | None = None,
        key: str | None = None,
        delay: int | None = None,
        data: str = "one",
        priority: int | None = None,
        timeout: int | None = None,
        count: int = 1,
        again: bool = False,
    ) -> None:
        """Create some runs with the same arguments."""
        orders: list[RunOrder] = []
        for _ in range(count):
            self.made += 1
            order = RunOrder(run_id(self.made), workflow, PAYLOADS[data], queue=queue, idempotency_key=key)
            at = None if delay is None else self.model.now + delay
            orders.append(replace(order, run_at_ms=at, priority=priority, run_timeout_ms=timeout))
        self.both("create", lambda: self.bench.scripts.create(orders, "app"), lambda: self.model.create(orders), again)

    def idempotency_key_expires(self, which: int) -> None:
        """The TTL of a key runs out; it counts by the server's own clock."""
        if self.model.holders:
            workflow, key = sorted(self.model.holders)[which % len(self.model.holders)]
            del self.model.holders[workflow, key]
            self.runner.run(self.bench.delete(f"idem:{len(workflow.encode())}:{workflow}:{key}"))

    def claim(self, worker: str, want: int, queues: tuple[str, ...], again: bool) -> None:
        """A worker claims."""
        self.claims += 1
        for _ in range(2 if again else 1):
            self._claim(worker, f"{worker}.{self.claims:x}", want, queues)

    def claim_late(self, worker: str, queues: tuple[str, ...]) -> None:
        """A duplicate of a worker's last claim arrives late."""
        known = self.model.workers.get(worker)
        if known is not None and known.token:
            self._claim(worker, known.token, len(known.claimed), queues)

    def _claim(self, worker: str, token: str, want: int, queues: tuple[str, ...]) -> None:
        model = self.model
        again = worker in model.workers and model.workers[worker].token == token
        first = {name for name, run in model.runs.items() if run["a"] is None}
        expected = model.claim(worker, token, want, queues)
        reply = self.runner.run(_awaited(lambda: self.bench.scripts.claim(worker, token, LEASE_MS, want, queues)))
        self.seen["claim: unregistered" if expected is None else "claim: runs" if expected else "claim: nothing"] += 1
        if reply is None or expected is None:
            assert (reply, expected) == (None, None)
            return
        assert [(run.lease, run.attempt) for run in reply.runs] == expected
        assert (reply.now, reply.more) == (model.now, again)
        assert reply.next_due == model.next_due()
        assert reply.next_lease == min(model.leases.values(), default=None)
        for run in reply.runs:
            told = {name.decode(): value.decode("utf-8", "surrogateescape") for name, value in run.record.items()}
            record = model.runs[run.lease.run_id].record()
            wanted = set("wcqmit") if run.lease.run_id in first and not again else record.keys()
            assert told == {name: value for name, value in record.items() if name in wanted}
        self.leases += [lease for lease, _ in expected if lease not in self.leases]

    # -- the attempt --------------------------------------------------------------------------------------------

    def lease(self, which: int) -> Lease:
        """One of the leases there ever were, one that holds more often than not."""
        held = [lease for lease in self.leases if self.model.owned(lease)[0] is not None]
        chosen = held if held and which % 5 else self.leases
        return chosen[which % len(chosen)] if chosen else Lease(run_id(0), 1, "w1.never")

    def record(self, steps: list[tuple[int, str, str, str]], again: bool) -> None:
        """Holders record steps: (lease, name, status, payload)."""
        writes = [_step(self.lease(which), name, status, payload) for which, name, status, payload in steps]
        self.both("record", lambda: self.bench.scripts.record(writes), lambda: self.model.record(writes), again)

    def settle(
        self, ends: list[tuple[int, str, str, int]], worker: str, queues: tuple[str, ...], idle: bool, again: bool
    ) -> None:
        """Holders end their attempts: (lease, outcome, payload, delay)."""
        items = [self._end(*end) for end in ends]
        self.both(
            "settle",
            lambda: self.bench.scripts.settle(items, worker, queues, idle=idle),
            lambda: self.model.settle(items, worker, queues, idle=idle),
            again,
        )

    def _end(self, which: int, outcome: str, payload: str, delay: int) -> Settlement:
        lease = self.lease(which)
        run = self.model.runs.get(lease.run_id)
        if run is not None and run["z"] is not None and run["ta"] is None:
            outcome = "failed"  # once a holder has decided that, no holder tells anything else
        steps = (_step(lease, "noted", "F", payload),) if which % 3 == 0 else ()
        attempt = run.number("a") if run else 1
        return settlement(lease, outcome, PAYLOADS[payload], due=self.model.now + delay, attempt=attempt, steps=steps)

    def decide_failure(self, which: int, error: str, again: bool) -> None:
        """A holder is about to call on_failure."""
        lease, stored = self.lease(which), PAYLOADS[error]
        self.both(
            "decide_failure",
            lambda: self.bench.scripts.decide_failure(lease, stored),
            lambda: self.model.decide_failure(lease, stored),
            again,
        )

    def release(self, which: list[int], again: bool) -> None:
        """A worker hands runs back."""
        leases = [self.lease(one) for one in which]
        self.both("release", lambda: self.bench.scripts.release(leases), lambda: self.model.release(leases), again)

    def renew(self, worker: str, which: list[int], again: bool) -> None:
        """A worker's heartbeat, maybe for leases of another."""
        leases = [self.lease(one) for one in which]
        self.both(
            "renew",
            lambda: self.bench.scripts.renew(worker, LEASE_MS, ALIVE_MS, leases, patience_s=5),
            lambda: self.model.renew(worker, leases, ALIVE_MS),
            again,
        )

    def cancel(self, which: int, reason: str, again: bool) -> None:
        """Cancel a run that somebody holds or held, or any, or one that never was."""
        run = self.lease(which).run_id if which % 2 else run_id(which % (self.made + 1))
        self.both(
            "cancel", lambda: self.bench.scripts.cancel(run, reason), lambda: self.model.cancel(run, reason), again
        )

    # -- operators ----------------------------------------------------------------------------------------------

    def retry(self, which: int, again: bool) -> None:
        """Retry a run that has failed, or any, or one that never was; what is sent again is another retry."""
        failed = sorted(run_id for run_id, run in self.model.runs.items() if run.status == "failed")
        run = failed[which % len(failed)] if failed and which % 4 else run_id(which % (self.made + 1))
        bench = self.bench
        for _ in range(2 if again else 1):
            (answer,) = self.runner.run(_awaited(lambda: operations_of(bench).retry_runs([public_run_id(run)])))
            operation = self.runner.run(bench.record(run)).get("ro", "")  # a random one
            assert answer == self.model.retry(run, operation)
            self.seen[f"retry: {answer}"] += 1

    def set_pause(self, what: str, paused: bool, again: bool) -> None:
        """Pause a queue or a workflow, or resume it."""
        kind: PauseKind = "queue" if what.startswith("q:") else "workflow"

        async def real() -> bool:
            operations = operations_of(self.bench)
            return await (operations.pause(kind, what[2:], "why") if paused else operations.resume(kind, what[2:]))

        self.both("pause" if paused else "resume", real, lambda: self.model.set_pause(what, "why", paused), again)

    # -- time and the loops -------------------------------------------------------------------------------------

    def pass_time(self, by: int) -> None:
        """The clock moves on."""
        self.model.now += by
        self.bench.now = self.model.now

    def promote(self, limit: int, after: int, again: bool) -> None:
        """Due runs enter their queues, maybe after some time; then there is one that had as long to wait."""
        if after:
            self.create("b", delay=after)
        self.pass_time(after)
        self.both("promote", lambda: self.bench.scripts.promote(limit), lambda: self.model.promote(limit), again)

    def time_out(self, limit: int, after: int, again: bool) -> None:
        """Runs time out, maybe after some time."""
        self.pass_time(after)
        self.both("time_out", lambda: self.bench.scripts.time_out(limit), lambda: self.model.time_out(limit), again)

    def recover(self, limit: int, again: bool, deaths: int) -> None:
        """Runs of dead holders are taken back; each time that all die, another worker claims them first."""
        scripts, model = self.bench.scripts, self.model
        for death in range(max(1, deaths)):
            if death:
                self.claim("w1", 3, ("app:q", "app:x"), again=False)
            if deaths:
                self.pass_time(LEASE_MS)
            self.both("recover", lambda: scripts.recover(limit, POISON), lambda: model.recover(limit, POISON), again)

    def purge(self, limit: int, again: bool, after: int) -> None:
        """Finished runs are removed, maybe after some time."""
        self.pass_time(after)
        self.both("purge", lambda: self.bench.scripts.purge(None, limit), lambda: self.model.purge(limit), again)

    def fail_strays(self, which: int, limit: int, waited: bool, again: bool) -> None:
        """Runs whose workflow nobody knows fail, if they waited long enough."""
        if waited:
            self.pass_time(PATIENCE_MS)
        places = sorted(self.model.stray_since) or [("app:q", "a")]
        queue, workflow = places[which % len(places)]
        self.both(
            "fail_strays",
            lambda: self.bench.scripts.fail_strays(queue, workflow, PATIENCE_MS, limit, POISON),
            lambda: self.model.fail_strays(queue, workflow, PATIENCE_MS, limit, POISON),
            again,
        )


def operations_of(bench: Bench) -> RedisOperations:
    """What operators do to the runs of a bench; its listing and its definitions are not asked."""
    connection, keys = bench.connection, bench.keys

    async def after(cascade: bool) -> None:
        raise AssertionError("nothing is canceled by these")

    place = Place(connection, keys, bench.scripts, Crons(connection, keys), Queries(connection, keys), after)
    return RedisOperations([place], Listing(connection, keys), Definitions(connection, keys))


async def _awaited(call: Callable[[], Awaitable[T]]) -> T:
    return await call()  # begun inside of the loop: some calls send at once


def _step(lease: Lease, name: str, status: str, payload: str) -> StepWrite:
    return StepWrite(lease, f"s:{name}", f"1 {status}r 1 0 5 ", PAYLOADS[payload])


def _told(answer: object) -> list[str]:
    """What is worth counting in an answer: codes and reasons, and whether a number is more than none."""
    if isinstance(answer, str):
        return [answer]
    if isinstance(answer, dict):
        return [*answer.values()] or ["plain"]
    if isinstance(answer, int):
        return ["some" if answer else "none"]
    if answer is None:
        return ["unregistered"]
    if isinstance(answer, list):
        return [part if isinstance(part, str) else part[0] for part in answer] or ["none"]
    assert isinstance(answer, tuple)
    if isinstance(answer[-1], dict):
        return _told(answer[-1])
    _, _, *counts = answer
    return [what for what, count in zip(("some", "poisoned"), counts, strict=False) if count] or ["none"]

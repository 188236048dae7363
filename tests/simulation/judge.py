"""Plays every call that the server executes to the model, and compares: the reply, and each key that either wrote.

What the network loses is no riddle here: the judge sits where the server is, and knows which calls were applied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from redflow.domain.run import RunOrder
from redflow.engines.redis.keys import Keys
from redflow.engines.redis.packing import unpack_record
from redflow.engines.redis.runs import Lease, Settlement, StepWrite
from tests.simulation.model import SimulatedModel
from tests.simulation.network import Applied
from tests.simulation.rendering import COMPARED, render_all, render_key
from tests.simulation.server import Change, Raw
from tests.support.keyspace import Value

_WHOLE_EVERY: Final = 40
"""After so many calls all keys are compared, not only those that were written."""
PASSED_OVER: Final = frozenset({"count_chores", "pass_bell", "purge_events", "explain_run", "due_events"})
"""Scripts that change nothing the model knows; what they write is compared all the same."""


class Violation(AssertionError):
    """The server and the model, or a promise and what happened, are not the same."""


class Judge:
    """Compares.

    Args:
        prefix: of the keys.
        model: what is to be.
        now_ms: tells the time of the server.
    """

    def __init__(self, prefix: str, model: SimulatedModel, now_ms: Callable[[], int]) -> None:
        self.model = model
        self._base = Keys.of(prefix).base
        self._now_ms = now_ms
        self._mirror: dict[str, Value] = {}
        self._calls = 0
        self._verbs: dict[str, Callable[[list[bytes]], object]] = {
            "create_runs": self._create,
            "claim_runs": self._claim,
            "record_steps": self._record,
            "settle_runs": self._settle,
            "decide_failure": self._decide,
            "release_runs": self._release,
            "renew_leases": self._renew,
            "recover_runs": self._recover,
            "promote_runs": self._promote,
            "time_out_runs": self._time_out,
            "cancel_run": self._cancel,
            "cancel_children": self._cancel_children,
            "purge_runs": self._purge,
            "fail_strays": self._fail_strays,
            "register_worker": self._register_worker,
            "unregister_worker": self._unregister_worker,
            "register_workflow": self._register_workflow,
            "remove_workflows": self._remove_workflows,
            "admit_run": self._admit,
            "start_children": self._start_children,
            "open_wait": self._open_wait,
            "close_wait": self._close_wait,
            "accept_event": self._accept,
            "subscribe_workflow": self._subscribe,
            "schedule_crons": self._schedule_crons,
            "due_crons": self._due_crons,
            "fire_cron": self._fire_cron,
        }

    # -- comparing ----------------------------------------------------------------------------------------------

    def applied(self, call: Applied) -> None:
        """A call was executed.

        Raises:
            Violation: the model says otherwise.
        """
        reply = call.outcome.reply
        if isinstance(reply, Exception):
            raise Violation(f"{call.verb} failed: {reply}")
        self.model.now, self.model.chance = self._now_ms(), call.chance
        if call.base:  # else a plain command: it changes nothing that is compared
            self._compare_reply(call, reply)
        self._calls += 1
        for change in call.outcome.changes:
            self._take_over(change)
        if self._calls % _WHOLE_EVERY == 0:
            self.compare_all(f"{call.verb} of {call.who}")
        else:
            for name in {change.key[len(self._base) :] for change in call.outcome.changes} | self.model.written:
                self._compare_key(name, f"{call.verb} of {call.who}")
        self.model.written.clear()

    def expired(self, key: str) -> None:
        """A key's time is over."""
        name = key[len(self._base) :]
        self._mirror.pop(name, None)
        self.model.now = self._now_ms()
        self.model.expire(name)

    def _compare_reply(self, call: Applied, reply: Raw) -> None:
        play = self._verbs.get(call.verb)
        if play is None:
            if call.verb not in PASSED_OVER:
                raise Violation(f"the judge knows nothing of the script {call.verb}")
            return
        expected = play(call.args)
        if expected is not ... and (told := _plain(reply)) != (wanted := _plain(expected)):
            raise Violation(f"{call.verb} of {call.who} answers {told}, should answer {wanted}")

    def _take_over(self, change: Change) -> None:
        name = change.key[len(self._base) :]
        if not change.key.startswith(self._base) or change.kind == "none":
            self._mirror.pop(name, None)
            return
        self._mirror[name] = _value(name, change)

    def _compare_key(self, name: str, after: str) -> None:
        family = name.partition(":")[0]
        if family not in COMPARED:
            return
        true, real = render_key(self.model, name), self._mirror.get(name)
        if (true or None) != real:
            raise Violation(f"after {after}: {name} is {real}, should be {true or None}")

    def compare_all(self, after: str) -> None:
        """Compare every key that the model knows."""
        true = render_all(self.model)
        real = {name: value for name, value in self._mirror.items() if name.partition(":")[0] in COMPARED}
        unlike = [name for name in sorted(true.keys() | real.keys()) if true.get(name) != real.get(name)]
        if unlike:
            told = "\n".join(f"{name}: is {real.get(name)}, should be {true.get(name)}" for name in unlike)
            raise Violation(f"after {after}:\n{told}")

    # -- what a call says ---------------------------------------------------------------------------------------

    def _create(self, args: list[bytes]) -> object:
        orders = [order_of(args[i : i + 11]) for i in range(2, len(args), 11)]
        return [part for code in self.model.create(orders) for part in code]

    def _claim(self, args: list[bytes]) -> object:
        worker, token, want = _text(args[1]), _text(args[2]), int(args[4])
        known = self.model.workers.get(worker)
        again = known is not None and known.token == token
        runs = self.model.claim(worker, token, want, _texts(args[7:]))
        if runs is None:
            return "unregistered"
        return _Claimed(self.model, runs, again)

    def _record(self, args: list[bytes]) -> object:
        return _reasons(self.model.record([_write(_lease(args[i:]), args[i + 3 :]) for i in range(0, len(args), 6)]))

    def _settle(self, args: list[bytes]) -> object:
        queues = int(args[4])
        items: list[Settlement] = []
        i = 5 + queues
        while i < len(args):
            lease, steps, waits = _lease(args[i:]), int(args[i + 8]), int(args[i + 9])
            first_wait = i + 10 + 3 * steps
            writes = [_write(lease, args[s : s + 3]) for s in range(i + 10, first_wait, 3)]
            due = int(args[i + 5]) if args[i + 5] else None
            items.append(
                Settlement(
                    lease,
                    _text(args[i + 3]),
                    args[i + 4],
                    due,
                    _text(args[i + 6]),
                    args[i + 7],
                    writes,
                    _texts(args[first_wait : first_wait + waits]),
                )
            )
            i = first_wait + waits
        more, reasons = self.model.settle(items, _text(args[1]), _texts(args[5 : 5 + queues]), idle=False)
        return [1 if more else 0, *_reasons(reasons)]

    def _decide(self, args: list[bytes]) -> object:
        return self.model.decide_failure(_lease(args), args[3])

    def _release(self, args: list[bytes]) -> object:
        return self.model.release([_lease(args[i:]) for i in range(2, len(args), 3)])

    def _renew(self, args: list[bytes]) -> object:
        leases = [_lease(args[i:]) for i in range(4, len(args), 3)]
        answer = self.model.renew(_text(args[1]), leases, int(args[3]))
        return "unregistered" if answer is None else [answer[0], answer[1], *_reasons(answer[2])]

    def _recover(self, args: list[bytes]) -> object:
        if args[4] and self.model.now > int(args[4]):
            return [self.model.now, min(self.model.leases.values(), default=None), 0, 0]
        return self.model.recover(int(args[1]), args[2])

    def _promote(self, args: list[bytes]) -> object:
        return self.model.promote(int(args[1]))

    def _time_out(self, args: list[bytes]) -> object:
        return self.model.time_out(int(args[1]))

    def _cancel(self, args: list[bytes]) -> object:
        return self.model.cancel_tree(_text(args[1]), _text(args[2]), _text(args[4]))

    def _cancel_children(self, args: list[bytes]) -> object:
        return self.model.cancel_children(int(args[1]))

    def _purge(self, args: list[bytes]) -> object:
        return self.model.purge(int(args[1]))

    def _fail_strays(self, args: list[bytes]) -> object:
        return self.model.fail_strays(_text(args[1]), _text(args[2]), int(args[3]), int(args[4]), args[5])

    def _register_worker(self, args: list[bytes]) -> object:
        return self.model.register_worker(_text(args[1]), _texts(args[5:]), _text(args[3]), int(args[2]))

    def _unregister_worker(self, args: list[bytes]) -> object:
        self.model.unregister_worker(_text(args[1]), _texts(args[3:]))
        return ...

    def _register_workflow(self, args: list[bytes]) -> object:
        limit = int(args[4]) if args[4] else None
        version = int(args[6]) if args[6] else None
        name, app, queue = _texts(args[1:4])
        answer = self.model.register_workflow(name, app, queue, limit, version, args[10] == b"1")
        if name in self.model.metas and answer == ["ok"]:
            self.model.metas[name].max_attempts = int(args[5])
        return answer

    def _remove_workflows(self, args: list[bytes]) -> object:
        self.model.remove_workflows(_text(args[1]), _texts(args[3:]), int(args[2]))
        return ...

    def _admit(self, args: list[bytes]) -> object:
        return self.model.admit(_lease(args[1:]), args[4] == b"1", _texts(args[5:]))

    def _start_children(self, args: list[bytes]) -> object:
        replies: list[str] = []
        for i in range(3, len(args), 17):
            order = order_of([*args[i + 7 : i + 17], b""])
            field, header, generation = _texts(args[i + 3 : i + 6])
            awaited = args[i + 6] == b"1"
            replies += self.model.start_child(_lease(args[i:]), field, header, generation, awaited, order)
        return replies

    def _open_wait(self, args: list[bytes]) -> object:
        field, header, event, key, deadline = _texts(args[4:9])
        return self.model.open_wait(_lease(args[1:]), field, header, event, key, int(deadline))

    def _close_wait(self, args: list[bytes]) -> object:
        run_id, field, event, key = _texts(args)
        return self.model.close_wait(run_id, field, event, key)

    def _accept(self, args: list[bytes]) -> object:
        key, parent, fingerprint = _texts(args[5:8])
        return self.model.accept_event(_text(args[1]), _text(args[3]), args[4], key, parent, fingerprint)

    def _subscribe(self, args: list[bytes]) -> object:
        texts = _texts(args)
        wanted = [(texts[i], texts[i + 1]) for i in range(1, len(texts), 3)]
        return self.model.subscribe(texts[0], wanted)

    def _schedule_crons(self, args: list[bytes]) -> object:
        texts = _texts(args)
        triggers = [texts[i : i + 6] for i in range(2, len(texts), 6)]
        return self.model.schedule_crons(texts[0], int(texts[1]) if texts[1] else None, triggers)

    def _due_crons(self, args: list[bytes]) -> object:
        return self.model.due_crons(int(args[1]))

    def _fire_cron(self, args: list[bytes]) -> object:
        trigger, due, following, fires, run_id, latest_ms = _texts(args[1:7])
        return self.model.fire_cron(trigger, due, following, fires, run_id, int(latest_ms))


class _Claimed:
    """What a claim is to answer; records are compared as far as they are told."""

    def __init__(self, model: SimulatedModel, runs: Sequence[tuple[Lease, int]], again: bool) -> None:
        self._model, self._runs, self._again = model, runs, again

    def plain(self) -> object:
        lease = min(self._model.leases.values(), default=None)
        told = [[lease.run_id, str(lease.fence), str(attempt)] for lease, attempt in self._runs]
        return [str(self._model.now), _time(self._model.next_due()), _time(lease), "1" if self._again else "0", *told]


def _time(at: int | None) -> str | None:
    return None if at is None else str(at)


def _plain(value: object) -> object:
    """Replies and answers in one form: texts, None and lists of these; runs of a claim by id, fence and attempt."""
    if isinstance(value, _Claimed):
        return value.plain()
    if isinstance(value, bytes | str):
        return (_text(value) if isinstance(value, bytes) else value) or None  # '' stands for no time
    if isinstance(value, list | tuple):
        parts = [_plain(part) for part in value]
        is_run = len(parts) > 3 and isinstance(parts[0], str) and len(parts[0]) == 32 and not isinstance(parts[1], list)
        return parts[:3] if is_run and str(parts[1]).isdigit() and len(parts) in (4, 9) else parts
    return None if value is None else str(value)


def order_of(args: Sequence[bytes]) -> RunOrder:
    """An order as it is sent."""
    run_id, workflow, queue, attempts, payload, run_at, key, ttl, priority, timeout, parent = args
    order = RunOrder(
        _text(run_id),
        _text(workflow),
        payload,
        queue=_text(queue[1:]) if queue else None,
        idempotency_key=_text(key[1:]) if key else None,
    )
    order.max_attempts = int(attempts) if attempts else None
    order.run_at_ms = int(run_at) if run_at else None
    order.idempotency_ttl_s = int(ttl) if ttl else order.idempotency_ttl_s
    order.priority = int(priority) if priority else None
    order.run_timeout_ms = int(timeout) if timeout else None
    order.parent_run_id = _text(parent) or None
    return order


def _lease(args: Sequence[bytes]) -> Lease:
    return Lease(_text(args[0]), int(args[1]), _text(args[2]))


def _write(lease: Lease, args: Sequence[bytes]) -> StepWrite:
    return StepWrite(lease, _text(args[0]), _text(args[1]), args[2])


def _reasons(reasons: dict[int, str]) -> list[object]:
    return [part for item in reasons.items() for part in item]


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _texts(values: Sequence[bytes]) -> list[str]:
    return [_text(value) for value in values]


def _value(name: str, change: Change) -> Value:
    flat = change.content
    if change.kind == "hash" and name.startswith("run:"):
        record = unpack_record(dict(zip(flat[::2], flat[1::2], strict=True)), name)
        return {_text(key): _text(value) for key, value in record.items()}
    if change.kind == "hash":
        return dict(zip(_texts(flat[::2]), _texts(flat[1::2]), strict=True))
    if change.kind == "zset":
        return {_text(member): float(score) for member, score in zip(flat[::2], flat[1::2], strict=True)}
    if change.kind == "set":
        return set(_texts(flat))
    if change.kind == "list":
        return _texts(flat)
    return _text(flat[0])

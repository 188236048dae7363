"""The model's families: children, the ends that their parents hear of, and cancels that go down a tree."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from redflow.domain.run import RunOrder, public_run_id, stored_run_id
from redflow.engines.redis.runs import Lease, Settlement
from tests.model.state import TERMINAL, Run
from tests.simulation.gates import Gates

UNFINISHED: Final = ("running", "scheduled", "queued")
_CHILD: Final = re.compile(rb"(\d+ Rc \d+ -?\d+ - )- ([0-9a-f]+)( \d+ [a-z]+ )", re.DOTALL)
_DECIDED: Final = re.compile(rb"\d+ R[ce] \d+ -?\d+ - [^-] ")
_END_LETTERS: Final = {"succeeded": b"S", "failed": b"F", "canceled": b"C"}


class Families(Gates):
    """A run's life with what hangs on its beginning and its end.

    Args:
        now: the time, epoch ms; whoever drives the model moves it.

    Attributes:
        chance: the number by which this call asks sets for "any" of their members.
    """

    def __init__(self, now: int) -> None:
        super().__init__(now)
        self.chance = 0
        self.kids: dict[str, set[str]] = defaultdict(set)
        self.reached: dict[str, set[str]] = defaultdict(set)
        self.cascade: dict[str, str] = {}
        self.awaiters: dict[str, set[str]] = defaultdict(set)
        self._ends: list[tuple[str, str, bytes]] | None = None

    def _any(self, names: set[str] | dict[str, str]) -> list[str]:
        """The members of a set in the order in which this call comes upon them."""
        ordered = sorted(names)
        at = self.chance % max(1, len(ordered))
        return ordered[at:] + ordered[:at]

    def _create(self, order: RunOrder) -> tuple[str, str]:
        is_new = order.run_id not in self.runs
        code, run_id = super()._create(order)
        parent = stored_run_id(order.parent_run_id) if order.parent_run_id else None
        if code == "created" and is_new and parent in self.runs:
            assert parent is not None
            above = self.runs[parent]
            self.kids[parent].add(run_id)
            if above.status == "canceled" or above["cr"] is not None:
                self._cascade_from(parent, str(above["cw"] or ""))
        return code, run_id

    def settle(
        self, items: Sequence[Settlement], worker: str, queues: Sequence[str], *, idle: bool
    ) -> tuple[bool, dict[int, str]]:
        """settle_runs; what hangs on the ends of several comes after all of them."""
        self._ends = [] if len(items) > 1 else None
        _, reasons = super().settle(items, worker, queues, idle=False)
        ends, self._ends = self._ends or [], None
        for end in ends:
            self._tell_end(*end)
        return any(self.ready[queue] or self.suspects[queue] for queue in queues), reasons

    def _settle(self, item: Settlement, run: Run) -> str:
        outcome = super()._settle(item, run)
        if outcome == "suspended" and any(_is_decided(run[wait]) for wait in item.waits):
            self._wake(item.lease.run_id)
        return outcome

    def finish(self, run_id: str, to: str, payload: bytes = b"") -> None:
        """End a run, and tell who waits for it."""
        super().finish(run_id, to, payload)
        if self._ends is None:
            self._tell_end(run_id, to, payload)
        else:
            self._ends.append((run_id, to, payload))

    def _wake(self, run_id: str) -> None:
        """A wait of this run was decided."""
        run = self.runs[run_id]
        if run.status == "scheduled" and run["r"] is not None:
            self.due.pop(run_id, None)
            run.drop("d")
            self.move(run, "queued")
            self.enqueue(run_id)

    def cancel(self, run_id: str, reason: str) -> str:
        """cancel_run, of one run"""
        run = self.runs.get(run_id)
        if run is not None and run.status not in TERMINAL and run["z"] is None:
            self.due.pop(run_id, None)
            if run["cr"] is None:
                self._cascade_from(run_id, reason)
        return super().cancel(run_id, reason)

    def cancel_tree(self, run_id: str, reason: str, operation: str) -> list[object]:
        """cancel_run"""
        answer, run = self.cancel(run_id, reason), self.runs.get(run_id)
        if operation and run is not None:
            if answer in ("canceled", "requested"):
                run.fields.setdefault("co", operation)
            if answer == "finished" and run["co"] == operation:
                answer = "canceled"
        return [answer, int(run_id in self.cascade)]

    def _cascade_from(self, run_id: str, reason: str) -> None:
        if self.kids.get(run_id):
            self.cascade[run_id] = reason or f"parent run {public_run_id(run_id)} canceled"

    def cancel_children(self, limit: int) -> list[int]:
        """cancel_children"""
        canceled = 0
        for parent in self._any(self.cascade)[:20]:
            reason, kids = self.cascade[parent], self.kids[parent]
            while kids and limit > 0:
                kid = self._any(kids)[0]
                kids.discard(kid)
                self.reached[parent].add(kid)
                limit -= 1
                answer = self.cancel(kid, reason)
                if answer == "finished":
                    self._cascade_from(kid, reason)
                canceled += answer in ("canceled", "requested")
            if not kids:
                self.cascade.pop(parent)
        return [canceled, int(bool(self.cascade))]

    def start_child(
        self, lease: Lease, step: str, header: str, generation: str, awaited: bool, order: RunOrder
    ) -> tuple[str, str]:
        """start_children, one of them"""
        parent, reason = self.owned(lease)
        if parent is None:
            return reason, ""
        if parent["cr"] is not None or parent["z"] is not None:
            return "cancel" if parent["cr"] is not None else "timeout", ""
        order.parent_run_id = public_run_id(lease.run_id)
        code, run_id = self._create(order)
        if code == "unknown_workflow":
            return code, run_id
        child = self.runs[run_id]
        if code == "created":
            child.fields["dp"] = parent.number("dp") + 1
        if awaited:
            whose = "own" if code == "created" else "foreign"
            parent.fields[step] = f"{header}- {run_id} {generation} {whose} ".encode()
            if child.status in TERMINAL:
                output = child["o"] if child.status == "succeeded" else child["e"]
                self._resolve_child(
                    run_id, child.status, output if isinstance(output, bytes) else b"", lease.run_id, step
                )
            else:
                self.awaiters[run_id].add(f"{lease.run_id} {step}")
        else:
            parent.fields[step] = f'{header}"{public_run_id(run_id)}"'.encode()
        parent.drop("x")
        return code, run_id

    def _tell_end(self, run_id: str, to: str, payload: bytes) -> None:
        self.written.add(f"awaiters:{run_id}")
        for awaiter in sorted(self.awaiters.pop(run_id, ())):
            parent, _, step = awaiter.partition(" ")
            self._resolve_child(run_id, to, b"" if to == "canceled" else payload, parent, step)

    def _resolve_child(self, child: str, to: str, payload: bytes, parent: str, step: str) -> None:
        run = self.runs.get(parent)
        packed = None if run is None else run[step]
        if run is None or run.status not in UNFINISHED or not isinstance(packed, bytes):
            return
        found = _CHILD.fullmatch(packed)
        if found is None or found[2].decode() != child:
            return
        self.written.add(f"run:{parent}")
        run.fields[step] = found[1] + _END_LETTERS[to] + b" " + found[2] + found[3] + payload
        self._wake(parent)


def _is_decided(packed: bytes | int | str | None) -> bool:
    return isinstance(packed, bytes) and _DECIDED.match(packed) is not None

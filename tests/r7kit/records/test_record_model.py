"""Random operations, many of them sent again, against a model of a task in plain Python."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from r7kit.exceptions import TaskAlreadyExistsError, TaskNotFoundError
from r7kit.operations import (
    ConfirmTask,
    CreateTask,
    DeleteTask,
    DiscardTask,
    GetTask,
    PatchTask,
    TaskChange,
    TaskChanges,
    Written,
)
from r7kit.records.store import TaskStore
from r7kit.stores import perform
from tests.r7kit.records.raw import Raw

KEYS = ("a", "b", "c", "uuid", "status")
Answer = tuple[str, int] | str | bool


@dataclass
class Model:
    """What a task's record has to be. Life times are not modeled."""

    there: bool = False
    deleted: bool = False
    starting: str = ""
    status: str = ""
    ver: int = 0
    payload: dict[str, object] = field(default_factory=dict)
    applied: dict[str, int] = field(default_factory=dict)
    events: list[tuple[str, int, str]] = field(default_factory=list)

    def apply(self, change: TaskChange) -> Answer:
        """Change the task; the answer is a version, or what was refused and why."""
        match change:
            case CreateTask():
                return self._create(change)
            case ConfirmTask():
                return self._confirm(change)
            case DiscardTask():
                return self._discard(change)
            case PatchTask() | DeleteTask():
                return self._write(change)

    def _create(self, order: CreateTask) -> Answer:
        if self.there:
            if order.op in self.applied:
                return "written", self.ver
            if not self.starting or (self.status, self.payload) != (order.status, order.payload):
                return "exists"
            self.applied[order.op] = self.ver
            return "waiting", self.ver
        self._new(order.op, order.status, order.payload)
        self.starting = order.op if order.starting else ""
        return "written", 1

    def _confirm(self, order: ConfirmTask) -> Answer:
        if self.there:
            if self.deleted:
                return False
            self.starting = ""
            return "written", self.ver
        if not order.may_create or order.op in self.applied:
            return False
        self._new(order.op, order.status, order.payload)
        return "written", 1

    def _discard(self, order: DiscardTask) -> Answer:
        if not self.there or self.starting != order.op:
            return False
        self._log("deleted")
        self._forget()
        self.applied.clear()
        return True

    def _write(self, order: PatchTask | DeleteTask) -> Answer:
        if order.op in self.applied:
            return "written", self.applied[order.op]
        if not self.there or self.deleted:
            return "not found"
        if isinstance(order, PatchTask):
            self.status = order.changes.status or self.status
            self.payload |= order.changes.payload
            for key in order.changes.removed:
                self.payload.pop(key, None)
            self._log("patched")
        else:
            self._log("deleted")
            self.deleted, self.starting = True, ""
        self.applied[order.op] = self.ver
        if isinstance(order, DeleteTask) and order.ttl_s == 0:
            self._forget()
        return "written", self.applied[order.op]

    def _new(self, op: str, status: str, payload: dict[str, object]) -> None:
        self.there, self.deleted, self.ver, self.starting = True, False, 0, ""
        self.status, self.payload = status, dict(payload)
        self._log("created")
        self.applied[op] = 1

    def _log(self, event: str) -> None:
        self.ver += 1
        self.events.append((event, self.ver, self.status))

    def _forget(self) -> None:
        self.there, self.deleted, self.starting, self.payload = False, False, "", {}


def random_change(rng: random.Random, task_id: str, sent: list[TaskChange]) -> TaskChange:
    """A new operation, or one that was sent before."""
    if sent and rng.random() < 0.3:
        return rng.choice(sent)
    op = f"op-{len(sent)}"
    starts = [order.op for order in sent if isinstance(order, CreateTask)] or [op]
    payload: dict[str, object] = {key: rng.choice([0, 1, "1", None, [1.0]]) for key in rng.sample(KEYS, 2)}
    match rng.choices(("create", "confirm", "discard", "patch", "delete"), (4, 3, 1, 8, 2))[0]:
        case "create":
            return CreateTask(task_id, op, rng.choice(["new", "other"]), {"a": rng.choice([1, 2])}, rng.random() < 0.6)
        case "confirm":
            return ConfirmTask(task_id, rng.choice(starts), "new", {"a": 3}, rng.random() < 0.5)
        case "discard":
            return DiscardTask(task_id, rng.choice(starts))
        case "patch":
            return PatchTask(task_id, op, TaskChanges(rng.choice([None, "s1", "s2"]), payload, rng.sample(KEYS, 1)))
    return DeleteTask(task_id, op, rng.choice([0, 50, None]))


async def answer_of(store: TaskStore, change: TaskChange) -> Answer:
    try:
        reply = await perform(store, change)
    except TaskAlreadyExistsError:
        return "exists"
    except TaskNotFoundError:
        return "not found"
    if isinstance(reply, Written):
        waiting = isinstance(change, CreateTask) and not reply.created
        return ("waiting" if waiting else "written"), reply.ver
    return reply if isinstance(reply, bool) else False


@pytest.mark.parametrize("seed", range(25))
async def test_a_record_is_what_the_model_says(store: TaskStore, raw: Raw, task_id: str, seed: int) -> None:
    rng, model, sent = random.Random(seed), Model(), list[TaskChange]()
    for _ in range(60):
        change = random_change(rng, task_id, sent)
        sent.append(change)
        expected = model.apply(change)
        answer = await answer_of(store, change)
        assert answer == expected, (change, sent)
        record = await raw.record(task_id)
        assert bool(record) == model.there, sent
        if model.there:
            task = await store.get(GetTask(task_id))
            assert (task.status, task.ver, task.exists) == (model.status, model.ver, not model.deleted), sent
            assert task.payload == model.payload, sent
            assert record.get("starting", "") == model.starting, sent
            assert await raw.ttl_s(task_id) > 0
    told = [(event["event"], event["ver"], event["status"]) for event in await raw.events(task_id)]
    assert told == model.events

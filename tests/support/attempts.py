"""Attempts whose journal is in memory, for tests of what the execution does without a server."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TypeAlias

from redflow.definitions import Handler, WorkflowDefinition
from redflow.domain.outcome import Outcome
from redflow.domain.payload import encode
from redflow.engines.inline.journal import InlineJournal
from redflow.execution.admission import Admission, AdmissionRequest
from redflow.execution.attempt import Announcer, Attempt
from redflow.execution.journal import Claim, Interruption
from redflow.execution.pipeline import attempt_outcome
from redflow.execution.steps import Steps
from redflow.execution.threads import ThreadPool
from redflow.types import DefineWorkflowOptions, ResolvedDebounce

AnyHandler: TypeAlias = Handler[object, object]


class MemoryJournal(InlineJournal):
    """Keeps steps as an engine would that lets runs sleep.

    Attributes:
        lease_holds: whether new work may begin.
    """

    sleeps_durably = True

    def __init__(self) -> None:
        super().__init__()
        self.lease_holds = True

    def may_begin(self) -> bool:
        return self.lease_holds

    async def decide_failure(self, error_json: bytes) -> Interruption | None:
        return None

    async def admit(self, request: AdmissionRequest) -> Admission:
        return Admission("admitted", self.now_ms())

    async def debounce(self, debounce: ResolvedDebounce) -> str:
        return "go_on"

    def statuses(self) -> dict[str, str]:
        """Step name -> status."""
        return {step.name: step.status for step in self.steps.values()}


@dataclass(slots=True)
class Ran:
    """An attempt that has come to its outcome."""

    outcome: Outcome | None
    attempt: Attempt
    journal: MemoryJournal


class Running:
    """An attempt of a run of `handler` that has been started; `await running.end()` gives its outcome."""

    def __init__(self, handler: AnyHandler, *, threads: int = 4) -> None:
        self.journal = MemoryJournal()
        self.pool = ThreadPool(threads)
        claim = Claim("run-1", "workflow", "default", 1, 3, self.journal.now_ms(), encode(None))
        # These attempts take no step beyond run, map and wait_for.
        self.attempt = Attempt(claim, self.journal, self.pool, Steps, Announcer())  # type: ignore[arg-type]
        definition = WorkflowDefinition(DefineWorkflowOptions("workflow"), handler)
        self._task = asyncio.create_task(attempt_outcome(self.attempt, definition, self.journal))
        self.attempt.task = self._task

    @property
    def ended(self) -> bool:
        return self._task.done()

    async def end(self) -> Ran:
        try:
            return Ran(await self._task, self.attempt, self.journal)
        finally:
            self.pool.close()


async def run_attempt(handler: AnyHandler, *, threads: int = 4) -> Ran:
    """One attempt of a run of a handler, up to the outcome that would be settled."""
    return await Running(handler, threads=threads).end()

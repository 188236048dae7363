"""The journal of an inline run: a dict, and beside it the values and errors as the handler saw them."""

from __future__ import annotations

import time

from redflow.domain.sealing import StepSeals
from redflow.domain.step import StepRecord
from redflow.engines.inline.results import InlineStepResult
from redflow.types import Durability


class InlineJournal:
    """Keeps the steps of one attempt in memory.

    Attributes:
        steps: the newest state of each step, by name.
        outputs: what the handler got from the steps that succeeded, by name.
        errors: what the others failed with, by name.

    Args:
        seals: encrypts and decrypts the steps; None: nothing does.
    """

    sleeps_durably = False

    def __init__(self, seals: StepSeals | None = None) -> None:
        self._seals = seals
        self.steps: dict[str, StepRecord] = {}
        self.outputs: dict[str, object] = {}
        self.errors: dict[str, BaseException] = {}

    def now_ms(self) -> int:
        """This machine's time, epoch ms."""
        return time.time_ns() // 1_000_000

    def may_begin(self) -> bool:
        """Always: there is no lease to lose."""
        return True

    async def record(self, step: StepRecord, durability: Durability = Durability.NONE) -> None:
        """Keep a step's state; nothing here survives the process."""
        self.note(step)

    async def prepare(self, durability: Durability) -> None:
        """Nothing is asked of memory."""

    async def confirm(self, step: StepRecord, durability: Durability) -> None:
        """Nothing is asked of memory."""

    def note(self, step: StepRecord) -> None:
        """Keep a step's state, encrypted and decrypted as a server would see it."""
        if self._seals is not None:
            step.payload = self._seals.sealed(step)
            self._seals.opened(step)
        self.steps[step.name] = step

    async def load(self, step: StepRecord) -> bytes:
        """The payload, which is never stored apart here."""
        return step.payload

    def results(self) -> list[InlineStepResult]:
        """The steps that have ended, in the order in which they began."""
        ended = [step for step in self.steps.values() if step.status != "running"]
        return [self._result(step) for step in sorted(ended, key=lambda step: step.seq)]

    def _result(self, step: StepRecord) -> InlineStepResult:
        if step.status == "succeeded":
            return InlineStepResult(step.name, "succeeded", output=self.outputs.get(step.name))
        return InlineStepResult(step.name, "failed", error=self.errors.get(step.name))

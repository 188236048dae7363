"""Runs one attempt of a workflow in this process, by the same code as every other engine."""

from __future__ import annotations

import asyncio
import builtins
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from redflow.definitions import AnyWorkflow
from redflow.domain.names import DEFAULT_QUEUE
from redflow.domain.payload import decode, unpack
from redflow.domain.sealing import StepSeals, Vault
from redflow.engines.inline.journal import InlineJournal
from redflow.engines.inline.results import InlineStepResult
from redflow.engines.inline.steps import InlineSteps
from redflow.execution.attempt import UNWIND_S, Announcer, Attempt
from redflow.execution.journal import Claim
from redflow.execution.pipeline import end_leftovers, run_handler
from redflow.execution.threads import ThreadPool

log = logging.getLogger("redflow")

_THREADS: Final = 32
"""How many plain functions may run at once; a worker has as many as its concurrency."""


@dataclass(slots=True)
class Ended:
    """How an attempt ended: an output as stored JSON reads, or an error, and the steps in any case."""

    output: object
    error: BaseException | None
    steps: list[InlineStepResult]


async def execute(
    definition: AnyWorkflow,
    data: object,
    *,
    run_id: str,
    attempt: int,
    max_attempts: int,
    timeout_s: float | None,
    overrides: Mapping[str, object],
    skip_time: bool,
    vault: Vault | None = None,
) -> Ended:
    """Run the handler of a workflow once.

    Args:
        definition: the workflow.
        data: its validated input.
        run_id: what the handler sees as the run's id.
        attempt: what it sees as the attempt's number.
        max_attempts: what it sees as the number of attempts.
        timeout_s: the longest it may take, seconds; None is no limit.
        overrides: step name -> value, instead of doing the step.
        skip_time: let sleeps pass at once.
        vault: encrypts and decrypts what would be stored; None: nothing does.

    Returns:
        How it ended; a time-out is a builtin TimeoutError in `error`.
    """
    journal = InlineJournal(None if vault is None else StepSeals(vault, run_id))
    threads = ThreadPool(_THREADS)
    # The input is not stored: the handler gets `data`.
    queue = definition.options.queue or DEFAULT_QUEUE
    claim = Claim(run_id, definition.name, queue, attempt, max_attempts, journal.now_ms(), b"null")
    running = Attempt(
        claim,
        journal,
        threads,
        lambda owner: InlineSteps(owner, journal, overrides, skip_time=skip_time),
        Announcer(),
    )
    task = asyncio.get_running_loop().create_task(_outcome(running, definition, data, vault), name=f"redflow-{run_id}")
    running.task = task
    try:
        done, _ = await asyncio.wait({task}, timeout=timeout_s)
        if done:
            output, error = task.result()
            return Ended(output, error, journal.results())
        await _interrupt(running, task)
        late = builtins.TimeoutError(f"run {run_id} did not end within {timeout_s:g} s")
        return Ended(None, late, journal.results())
    except asyncio.CancelledError:
        await _interrupt(running, task)
        raise
    finally:
        threads.close()


async def _outcome(
    attempt: Attempt, definition: AnyWorkflow, data: object, vault: Vault | None
) -> tuple[object, BaseException | None]:
    """The handler's output, or what came of it instead."""
    try:
        output = await run_handler(attempt, definition, data)
        if vault is not None:
            run_id = attempt.claim.run_id
            output = vault.open(vault.seal(output, "output", run_id), "output", run_id)
        return decode(unpack(output)), None
    except KeyboardInterrupt:
        raise
    except BaseException as exc:
        error = exc
    attempt.close()
    await end_leftovers(attempt)
    if isinstance(error, asyncio.CancelledError) and attempt.state == "ended":
        cause = RuntimeError("the handler was cancelled by itself: an asyncio.CancelledError left it")
        cause.__cause__ = error
        return None, cause
    return None, error


async def _interrupt(attempt: Attempt, task: asyncio.Task[tuple[object, BaseException | None]]) -> None:
    attempt.interrupt("canceled")
    _, pending = await asyncio.wait({task}, timeout=UNWIND_S)
    if pending:
        log.warning("run %s did not end %g s after it was interrupted", attempt.claim.run_id, UNWIND_S)

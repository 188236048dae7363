"""Unit tests of workflows without a server: `run_inline` runs a handler once, in this process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar, cast

from redflow.codec import PayloadCodec
from redflow.definitions import WorkflowDefinition, validate_input_with_schema
from redflow.domain.payload import decode, encode
from redflow.domain.sealing import Vault
from redflow.engines.inline.engine import execute
from redflow.engines.inline.results import InlineRunResult, InlineStepResult, InlineStepStatus
from redflow.errors import InputValidationError

__all__ = ["InlineRunResult", "InlineStepResult", "InlineStepStatus", "run_inline"]

InputT = TypeVar("InputT")
OutputT = TypeVar("OutputT")


async def run_inline(
    definition: WorkflowDefinition[InputT, OutputT],
    input: InputT | Mapping[str, object] | None = None,
    *,
    run_id: str = "test-run-1",
    attempt: int = 1,
    max_attempts: int = 3,
    timeout_s: float | None = 30.0,
    step_overrides: Mapping[str, object] | None = None,
    skip_time: bool = False,
    codec: PayloadCodec | None = None,
) -> InlineRunResult[OutputT]:
    """Run a workflow's handler once, in this process, without a server.

    Steps run as in a worker: names, arguments, signals, time-outs and the round trip of their values through
    JSON are the same. There is one attempt: no retries, no on_failure, no admission, no time-out but `timeout_s`, and
    no other workflow and no event is started.

    Args:
        definition: the workflow.
        input: its input. With an input_schema it is validated as it is; without one it passes through JSON.
        run_id: `ctx.run.id`.
        attempt: `ctx.run.attempt`.
        max_attempts: `ctx.run.max_attempts`.
        timeout_s: the longest the handler may take, in seconds; None is no limit.
        step_overrides: step name -> value that the step gives back, as it is, instead of doing anything. For
            `wait_for_event` a dict or None, for `emit_workflow` a str, for `emit_event` a list of str. A
            `run_workflow` step must have one. For `wait_for`, None skips the sleep. Names that no step has are
            ignored.
        skip_time: let every `wait_for` pass at once; else they really sleep.
        codec: what would be stored passes through it, there and back; None means none, whatever the environment says.

    Returns:
        How it ended. Whatever the handler raised is in `error`, as is an InputValidationError, or the builtin
        TimeoutError when `timeout_s` was over.

    Raises:
        TypeError: `definition` is no workflow definition; or the input is not JSON, as in `definition.run`.
        ValueError: the input is JSON that can't be stored, such as NaN.

    Example:
        >>> result = await run_inline(send_invoice, {"order": 17}, step_overrides={"send": "sent"})
        >>> assert result.succeeded and result.steps[0].name == "send"
    """
    if not isinstance(definition, WorkflowDefinition):
        raise TypeError(f"run_inline needs a WorkflowDefinition, got {type(definition).__name__}")
    schema = definition.options.input_schema
    vault = None if codec is None else Vault(codec, "inline")
    data: object
    if schema is None:
        data = decode(_there_and_back(encode(input), vault, run_id))
    else:
        try:
            data = await validate_input_with_schema(schema, input)
        except InputValidationError as exc:
            return InlineRunResult(error=_with_reason(exc))
    ended = await execute(
        definition,
        data,
        run_id=run_id,
        attempt=attempt,
        max_attempts=max_attempts,
        timeout_s=timeout_s,
        overrides=step_overrides or {},
        skip_time=skip_time,
        vault=vault,
    )
    output = cast(OutputT | None, ended.output)  # reason: the handler's output after its round trip through JSON
    return InlineRunResult(output, ended.error, ended.steps)


def _there_and_back(data: bytes, vault: Vault | None, run_id: str) -> bytes:
    return data if vault is None else vault.open(vault.seal(data, "input", run_id), "input", run_id)


def _with_reason(error: InputValidationError) -> InputValidationError:
    """The error with the schema's own words as its text."""
    cause = error.issues if isinstance(error.issues, Exception) else error
    told = InputValidationError(str(cause), issues=error.issues)
    told.__cause__ = cause
    return told

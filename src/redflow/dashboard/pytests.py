"""A run as a pytest test: the same input, and what each step gave back. Pure."""

from __future__ import annotations

import keyword
import re
from collections.abc import Collection, Sequence

from redflow.dashboard.text import masked
from redflow.types import JsonValue, RunState, StepState

_MOST_CHARS = 20_000


def as_pytest(run: RunState, steps: Sequence[StepState], mask: Collection[str]) -> str:
    """The text of a test that runs the workflow again, in the test's process and without a server.

    Steps that succeeded give back what they gave; what did not is left for the reader to fill in.
    """
    name = _identifier(run["workflow"])
    overrides = [
        f"        {step['name']!r}: {_literal(step['output'], mask)},"
        for step in steps
        if step["status"] == "succeeded" and "output" in step
    ]
    failed = [step for step in steps if step["status"] == "failed"]
    lines = [
        "from redflow import get_default_registry, run_inline",
        "",
        "import your_workflows  # the module that defines the workflow",
        "",
        "",
        f"async def test_{name}_as_in_{run['id'][-8:].replace('-', '_')}() -> None:",
        f"    definition = get_default_registry().get({run['workflow']!r})",
        "    assert definition is not None",
        f"    run_input = {_literal(run['input'], mask)}",
        "    steps = {",
        *overrides,
        "    }",
        "    result = await run_inline(definition, run_input, step_overrides=steps, skip_time=True)",
    ]
    lines[9:9] = [f"    # step {step['name']!r} failed: {_what(step)}" for step in failed[:5]]
    lines += _verdict(run, mask)
    text = "\n".join(lines) + "\n"
    if len(text) > _MOST_CHARS:
        return f"# The payloads of this run are too large for a test in a page ({len(text)} characters).\n"
    return text


def _verdict(run: RunState, mask: Collection[str]) -> list[str]:
    if run["status"] == "succeeded":
        return ["    assert result.error is None", f"    assert result.output == {_literal(run.get('output'), mask)}"]
    if run["status"] == "failed":
        error = run.get("error")
        name = "Error" if error is None else str(error.get("name", "Error"))
        return ["    assert result.error is not None", f"    assert type(result.error).__name__ == {name!r}"]
    return ["    assert result.error is None  # the run has not ended: say here what should come of it"]


def _literal(value: JsonValue, mask: Collection[str]) -> str:
    """The value as source of Python; what is masked stays so."""
    shown = masked(value, mask)
    return repr(shown)


def _what(step: StepState) -> str:
    error = step.get("error")
    return "" if error is None else " ".join(f"{error.get('name')}: {error.get('message')}".split())[:200]


def _identifier(name: str) -> str:
    made = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_").lower()[:60] or "workflow"
    return f"{made}_" if keyword.iskeyword(made) else made

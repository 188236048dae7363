"""Tables of the reference say what the code says."""

from __future__ import annotations

import dataclasses
import inspect
import re
from importlib.resources import files
from typing import NotRequired, get_origin, get_type_hints, is_typeddict

import pytest
import typer.main
from typer.core import TyperGroup, TyperOption

import redflow
from redflow import StartWorkerOptions, config, errors, types
from redflow.cli.app import app
from redflow.domain import options as domain_options
from redflow.domain import payload
from redflow.domain.names import MAX_NAME_BYTES
from redflow.domain.paging import LARGEST_PAGE
from redflow.domain.retry import is_retryable_error
from redflow.domain.run import MAX_NESTING
from redflow.engines.redis import keys, urls
from redflow.errors import RedflowError
from redflow.execution.steps import MAX_STEPS
from tests.docs.pages import blocks_of, read_page

README = "README.md"


def section(page: str, heading: str) -> str:
    """The part of a page from a heading to the next one of any level."""
    text = read_page(page)
    assert f"\n{heading}\n" in text, f"{page} has no {heading}"
    return re.split(r"\n#+ ", text.split(f"\n{heading}\n", 1)[1], maxsplit=1)[0]


def rows(text: str) -> list[list[str]]:
    """The rows of the first table, without head; cells without their code marks."""
    table = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip().replace("`", "") for cell in line.strip("|").split("|")] for line in table[2:]]


def test_redis_layout_is_that_of_the_code() -> None:
    documented = next(block for block in blocks_of("docs/reference/redis-layout.md") if block.language == "text")
    assert inspect.cleandoc(keys.__doc__ or "").rstrip() == documented.text.rstrip()


def test_base_of_the_default_prefix_is_told() -> None:
    assert f"`{keys.Keys.of(config.DEFAULT_PREFIX).base}`" in read_page("docs/reference/redis-layout.md")


def test_every_script_is_told_with_its_purpose() -> None:
    documented = dict(rows(section("docs/reference/redis-layout.md", "## Scripts")))
    lua = files("redflow.engines.redis").joinpath("lua")
    purposes = {}
    for entry in lua.iterdir():
        if entry.name.endswith(".lua"):
            match = re.search(r"^-- purpose: (.*)$", entry.read_text("utf-8"), re.M)
            assert match is not None, entry.name
            purposes[entry.name.removesuffix(".lua")] = match[1].replace("|", "/").replace("`", "").strip()
    assert documented == purposes


def error_classes() -> dict[str, type[RedflowError]]:
    """The exception classes of redflow.errors."""
    found = vars(errors).items()
    return {name: cls for name, cls in found if isinstance(cls, type) and issubclass(cls, RedflowError)}


def test_errors_are_told_with_their_kinds_and_whether_they_are_retried() -> None:
    page = read_page("docs/reference/errors.md")
    table = {row[0]: row for row in rows(page.split("\n## ")[0])}
    classes = {name: cls for name, cls in error_classes().items() if not name.startswith("_")}
    untold = {name for name in classes if f"`{name}`" not in page}
    assert not untold
    for name, (_, kind, _, retried) in table.items():
        assert classes[name].kind == kind
        if retried in ("yes", "no"):
            instance = classes[name].__new__(classes[name])
            assert is_retryable_error(instance) == (retried == "yes"), name


@pytest.mark.parametrize(
    "record",
    [
        "RunState",
        "StepState",
        "AttemptTrace",
        "StepTrace",
        "ListedRun",
        "SearchRunsResult",
        "RunStats",
        "WorkflowMeta",
        "WorkflowCronMeta",
        "WorkflowEventMeta",
        "RunExplanation",
        "EmittedEvent",
        "ReceivedEvent",
        "ListedEvent",
        "EventRecord",
        "EventDelivery",
        "EventDefinition",
        "EventWaitInfo",
        "DoctorReport",
        "DoctorFinding",
        "QueueInfo",
        "Pause",
        "WorkflowInfo",
        "ScheduleInfo",
        "WorkerInfo",
        "FailureGroups",
        "FailureGroup",
        "RunCount",
        "RunBucket",
        "BulkProgress",
    ],
)
def test_records_have_the_keys_that_are_told(record: str) -> None:
    cls = getattr(types, record)
    assert is_typeddict(cls)
    required: set[str] = set()
    optional: set[str] = set()
    for names, meaning in rows(section("docs/reference/records.md", f"## {record}")):
        found = {name.strip() for name in names.split(",")}
        (optional if meaning.startswith("*opt*") else required).update(found)
    hints = get_type_hints(cls, include_extras=True)
    not_required = {name for name, hint in hints.items() if get_origin(hint) is NotRequired}
    assert required == set(hints) - not_required
    assert optional == not_required


def test_url_forms_are_those_that_are_accepted() -> None:
    documented = [row[0] for row in rows(read_page("docs/reference/urls.md"))][: len(urls.ACCEPTED_FORMS)]
    assert documented == [form.split(" (")[0] for form in urls.ACCEPTED_FORMS]


def test_limits_are_those_of_the_code() -> None:
    table = {row[0].split(":")[0]: row[1] for row in rows(read_page("docs/reference/limits.md"))}
    assert table["a JSON payload"] == f"{payload.MAX_PAYLOAD_BYTES // 2**20} MiB"
    assert table["nesting of a payload"] == str(payload.MAX_DEPTH)
    assert table["names and keys"].startswith(f"{MAX_NAME_BYTES} bytes")
    assert table["steps of a run"] == f"{MAX_STEPS:,}"
    assert table["children below children"] == f"{MAX_NESTING} levels"
    assert table["runs in a page of search_runs"] == str(LARGEST_PAGE)
    assert table["any delay"] == f"{errors.MAX_DELAY_MS // (365 * 86_400_000)} years"
    assert table["max_attempts"] == f"{domain_options.MAX_ATTEMPTS_LIMIT:,}"
    assert table["max_concurrency"] == f"{domain_options.MAX_COUNT:,}"
    assert table["stored error message"] == f"{errors.MAX_ERROR_MESSAGE_BYTES // 1024} KiB"
    assert table["stored traceback"] == f"{errors.MAX_ERROR_STACK_BYTES // 1024} KiB"


def test_environment_variables_are_those_that_are_read() -> None:
    known = set(re.findall(r"^(RED[A-Z_]+)  ", config.__doc__ or "", re.M))
    assert {row[0] for row in rows(section(README, "### Environment variables"))} == known


def test_worker_options_and_defaults_are_those_of_the_class() -> None:
    documented = {row[0]: row[1] for row in rows(section(README, "### Worker options"))}
    fields = dataclasses.fields(StartWorkerOptions)
    defaults = {f.name: "" if f.default is dataclasses.MISSING else str(f.default) for f in fields}
    assert documented == defaults


def test_public_api_is_told() -> None:
    told = set(re.findall(r"`(\w+)`", section(README, "### Public API")))
    # The errors have a page of their own.
    apart = {"RunStatus", "DefineWorkflowOptions", "__version__", "__unstable_reset_default_registry_for_tests"}
    assert set(redflow.__all__) - apart - set(error_classes()) <= told


def test_commands_and_their_options_are_told() -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    page = "docs/reference/command-line.md"
    for name, command in group.commands.items():
        text = section(page, f"## redflow {name}")
        told = {row[0] for row in rows(text)} if "|" in text else set()
        options = {parameter.opts[0] for parameter in command.params if isinstance(parameter, TyperOption)}
        assert told == options, name
    assert set(re.findall(r"^## redflow (\w+)$", read_page(page), re.M)) == set(group.commands)

"""The pages on task flows say what the code says."""

from __future__ import annotations

import importlib
import inspect
import re
from importlib.resources import files

from r7kit import exceptions
from r7kit.base_task_workflow import BaseTaskWorkflow
from r7kit.operations import MAX_FIELDS, META_NAMES, START_TTL_S
from r7kit.records import keys
from r7kit.runtime import CARRIED_BYTES
from r7kit.serializer import COMPRESS_FROM_BYTES, MAX_VALUE_BYTES
from tests.docs.pages import blocks_of, read_page
from tests.docs.test_reference import rows, section

REFERENCE, LAYOUT = "docs/r7kit/reference.md", "docs/r7kit/redis-layout.md"


def test_the_layout_is_that_of_the_code() -> None:
    documented = next(block for block in blocks_of(LAYOUT) if block.language == "text")
    assert inspect.cleandoc(keys.__doc__ or "").rstrip() == documented.text.rstrip()
    assert f"| {START_TTL_S} seconds |" in read_page(LAYOUT)
    assert f"{keys.OPS_TTL_S // 60} minutes at least" in read_page(LAYOUT)


def test_every_script_is_told_with_its_purpose() -> None:
    purposes = {}
    for entry in files("r7kit.records").joinpath("lua").iterdir():
        if entry.name.endswith(".lua"):
            match = re.search(r"^-- purpose: (.*)$", entry.read_text("utf-8"), re.M)
            assert match is not None, entry.name
            purposes[entry.name.removesuffix(".lua")] = match[1].replace("`", "")
    assert {row[0]: row[1] for row in rows(section(LAYOUT, "## Scripts"))} == purposes


def test_what_is_told_of_modules_can_be_imported() -> None:
    for module, names in rows(section(REFERENCE, "## Modules")):
        for name in names.split(", "):
            assert hasattr(importlib.import_module(module), name), f"{module}.{name}"


def test_methods_of_flows_are_there() -> None:
    told = re.findall(r"(\w+)\(", " ".join(row[0] for row in rows(section(REFERENCE, "## In a flow"))))
    for name in set(told) - {"run", "start"}:
        assert callable(getattr(BaseTaskWorkflow, name)), name


def test_errors_are_those_of_the_code() -> None:
    told = {name: base for name, base, _ in rows(section(REFERENCE, "## Errors"))}
    classes = {
        name: cls.__bases__[0].__name__
        for name, cls in vars(exceptions).items()
        if inspect.isclass(cls) and cls.__module__ == exceptions.__name__
    }
    assert told == classes


def test_limits_are_those_of_the_code() -> None:
    limits = dict(rows(section(REFERENCE, "## Limits")))
    assert limits["payload keys and attributes in one operation"] == f"{MAX_FIELDS:,}"
    assert limits["JSON of one value"].startswith(f"{MAX_VALUE_BYTES // 2**20} MiB")
    assert limits["payload that travels with a start, for workers that take more than a minute"] == (
        f"{CARRIED_BYTES // 1024} KiB"
    )
    lua = files("r7kit.records").joinpath("lua", "lib", "remember_op.lua").read_text("utf-8")
    assert f"0, -{int(limits['operations that a task remembers']) + 1})" in lua
    assert f"From {COMPRESS_FROM_BYTES // 1024} KiB of JSON on" in read_page(LAYOUT)
    assert all(f"`{name}`" in section(REFERENCE, "## In a flow") for name in META_NAMES)

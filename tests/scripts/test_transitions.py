"""The transition table: the same in Python, in Lua and in the picture."""

from __future__ import annotations

import itertools
import re
from importlib.resources import files
from pathlib import Path

import pytest

from redflow.domain.run import NEW, TRANSITIONS
from redflow.errors import RedflowError
from tests.support.scripts import Bench, run_id
from tools.draw_transitions import LABELS, PAGE, draw, main

LUA = files("redflow.engines.redis").joinpath("lua")
SET_STATUS = LUA.joinpath("lib", "set_status.lua").read_text("utf-8")
ITS_INCLUDES = "".join(LUA.joinpath("lib", f"{name}.lua").read_text("utf-8") for name in ("index_run", "write_indexes"))
STATUSES = [*TRANSITIONS]


def table_in_lua() -> dict[str, set[str]]:
    """The rows of `allowed`, as they are written."""
    body = re.search(r"local allowed_transitions = \{\n(.*?)\n\}", SET_STATUS, re.DOTALL)
    assert body is not None
    rows: dict[str, set[str]] = {}
    for line in body[1].splitlines():
        row = re.fullmatch(r"\s*(?:\['(\w+)'\]|(\w+)) = \{ (.*) \},", line)
        assert row is not None, f"not a row: {line!r}"
        entries = row[3].split(", ")
        assert all(entry.endswith(" = true") for entry in entries)
        rows[row[1] or row[2]] = {entry.removesuffix(" = true") for entry in entries}
    return rows


def test_the_table_is_the_same_in_python_and_lua() -> None:
    assert table_in_lua() == {state: set(reached) for state, reached in TRANSITIONS.items() if reached}


@pytest.mark.parametrize(("state", "following"), [*itertools.product(STATUSES, STATUSES)])
async def test_the_script_makes_exactly_these_transitions(bench: Bench, state: str, following: str) -> None:
    source = f"{ITS_INCLUDES}{SET_STATUS}\nset_status(KEYS[1], ARGV[1], 'w', 5, ARGV[2], ARGV[3])\nreturn 'ok'"
    run = run_id(1)
    if state != NEW:
        await bench.read("HSET", f"@run:{run}", "s", state)
        await bench.read("ZADD", f"@idx:{state}:w", 5, run)
    before = await bench.values()
    call = ("EVAL", source, 1, bench.keys.base, run, "" if state == NEW else state, following)
    if following in TRANSITIONS[state]:
        await bench.read(*call)
        assert await bench.values() == {f"run:{run}": {"s": following}, f"idx:{following}:w": {run: 5}}
    else:
        with pytest.raises(RedflowError, match=f"illegal transition .*-> {following} of run {run}"):
            await bench.read(*call)
        assert await bench.values() == before
    await bench.read("DEL", f"@run:{run}", *[f"@idx:{status}:w" for status in STATUSES])


def test_one_include_is_the_only_code_that_writes_a_status() -> None:
    writers = re.compile(r"'HM?SET(NX)?', [^,\n]*(, [^,\n]*, [^,\n]*)*, 's',|fields\[[^]]*\] = 's'")
    sources = {
        path.name: path.read_text("utf-8")
        for path in [*LUA.iterdir(), *LUA.joinpath("lib").iterdir()]
        if path.is_file()
    }
    assert [name for name, source in sources.items() if writers.search(source)] == ["set_status.lua"]


def test_the_picture_is_current(tmp_path: Path) -> None:
    assert main(["--check"]) == 0
    assert main(["--check", "--root", str(tmp_path)]) == 1
    assert main(["--root", str(tmp_path)]) == 0
    assert main(["--check", "--root", str(tmp_path)]) == 0
    (tmp_path / PAGE).write_text("old", "utf-8")
    assert main(["--check", "--root", str(tmp_path)]) == 1


def test_a_transition_without_a_label_is_refused() -> None:
    changed = {**TRANSITIONS, "canceled": frozenset({"queued"})}
    with pytest.raises(ValueError, match=r"differ in \[\('canceled', 'queued'\)\]"):
        draw(changed, LABELS)

"""tools/lint_lua.py accepts scripts that keep the rules and names each breach of one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tools.lint_lua import LUA_DIRECTORY, luac, main

HEADER = """\
-- verb: touch_run
-- purpose: note that somebody looked at a run,
--   and when
-- keys: 1 run, 2 others...
-- args: now, who
-- item: id, age (in ms)
-- replies: touched; missing: there is no such run
"""
VERB = HEADER + "-- include: server_now\nreturn redis.call('HSET', KEYS[1], ARGV[2], server_now(ARGV[1]))\n"
INCLUDE = "-- The clock.\nlocal function server_now(given)\n  return given or redis.call('TIME')[1]\nend\n"

Lint = Callable[[dict[str, str]], tuple[int, str]]


@pytest.fixture
def lint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Lint:
    """Run the tool on Lua files given by their path below lua/; returns the exit code and what it printed."""

    def run(files: dict[str, str]) -> tuple[int, str]:
        directory = tmp_path / LUA_DIRECTORY
        for name, text in files.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        shutil.copy(Path(__file__).resolve().parents[2] / ".luacheckrc", tmp_path)
        code = main(["--root", str(tmp_path)])
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return run


def test_scripts_in_order_pass(lint: Lint) -> None:
    code, printed = lint({"touch_run.lua": VERB, "lib/server_now.lua": INCLUDE})
    assert "lint_lua: 1 verbs and 1 includes are in order" in printed
    assert code == 0


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        (HEADER, "", "1: the contract header lacks: verb, purpose, keys, args, replies"),
        ("-- verb: touch_run\n", "", "1: the contract header lacks: verb"),
        ("-- verb: touch_run\n", "-- a word first\n-- verb: touch_run\n", "1: the contract header lacks"),
        (
            "-- args: now, who\n-- item: id, age (in ms)\n",
            "-- item: id\n-- args: now, who\n",
            "must open the file",
        ),
        ("verb: touch_run", "verb: touch_runs", "1: verb: is 'touch_runs', the file is named 'touch_run'"),
        ("1 run, 2 others...", "run", "4: keys: 'run' is not of the form"),
        ("1 run, 2 others...", "1 run, 3 other", "4: keys: '3 other' stands at place 2"),
        ("1 run, 2 others...", "1 runs..., 2 other", "4: keys: '1 runs...' repeats and must come last"),
        ("1 run, 2 others...", "none", "9: KEYS[1], but the header declares 0"),
        ("now, who", "now, now", "5: args: 'now' stands there twice"),
        ("now, who\n-- item: id, age (in ms)", "now", "8: ARGV[2], but the header declares 1"),
        ("-- include: server_now\n", "", "accessing undefined variable 'server_now'"),
        ("-- include: server_now\n", "-- include: nothing\n", "8: include: there is no lib/nothing.lua"),
        (
            "-- include: server_now\n",
            "-- include: server_now\n" * 2,
            "9: include: server_now is pulled in twice",
        ),
        ("server_now(ARGV[1])", "ARGV[1]", "8: include: server_now is not used here"),
        ("return redis", "stray = 1\nreturn redis", "setting non-standard global variable 'stray'"),
        ("return redis", "local t = os.clock()\nreturn t, redis", "accessing undefined variable 'os'"),
        ("return redis", "return return redis", "9: syntax:"),
        ("return redis", "local t = 1\n" * 112 + "return redis", "121: has 121 lines, the limit is 120"),
    ],
)
def test_breach_in_a_verb_fails(lint: Lint, old: str, new: str, complaint: str) -> None:
    assert old in VERB
    program = luac() if "syntax" in complaint else shutil.which("luacheck")
    if program is None and ("syntax" in complaint or "variable" in complaint):
        pytest.skip("needs the packages lua5.1 and lua-check")  # .ci/run installs them
    code, printed = lint({"touch_run.lua": VERB.replace(old, new), "lib/server_now.lua": INCLUDE})
    assert complaint in printed
    assert code == 1


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        (
            "server_now(",
            "now(",
            "must define exactly one local function, named 'server_now'; it defines: now",
        ),
        ("local function", "function", "it defines: none"),
        ("end\n", "end\nlocal function two()\nend\n", "it defines: server_now, two"),
        ("end\n", "end\nredis.call('PING')\n", "5: an include holds nothing but its function and tables"),
        ("-- The clock.\n", "-- a\n" * 40, "41: has 43 lines, the limit is 40"),
        ("-- The clock.\n", "-- include: server_now\n", "include: server_now includes this file again"),
    ],
)
def test_breach_in_an_include_fails(lint: Lint, old: str, new: str, complaint: str) -> None:
    assert old in INCLUDE
    code, printed = lint({"touch_run.lua": VERB, "lib/server_now.lua": INCLUDE.replace(old, new)})
    assert complaint in printed
    assert code == 1


def test_unused_and_misplaced_files_fail(lint: Lint) -> None:
    code, printed = lint({"lib/server_now.lua": INCLUDE, "old/touch_run.lua": VERB})
    assert "lib/server_now.lua:1: is included by no script" in printed
    assert "old/touch_run.lua:1: belongs into lua/" in printed
    assert code == 1


def test_missing_programs_are_said_and_fail_when_strict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["--root", str(tmp_path)]) == 0
    assert "the syntax is not checked" in capsys.readouterr().err
    assert main(["--root", str(tmp_path), "--strict"]) == 1
    assert "the globals are not checked" in capsys.readouterr().err

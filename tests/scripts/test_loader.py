"""The loader: includes in their order, headers held against callers, scripts that every server compiles."""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
import re
from importlib.resources import files

import pytest

import redflow.engines.redis
from redflow.engines.redis import scripts
from redflow.engines.redis.replies import as_text
from redflow.engines.redis.scripts import Script, verb
from tests.support.scripts import Bench

LUA = files("redflow.engines.redis").joinpath("lua")
VERBS = sorted(path.name.removesuffix(".lua") for path in LUA.iterdir() if path.name.endswith(".lua"))
MODULES = [
    importlib.import_module(module.name)
    for module in pkgutil.walk_packages(redflow.engines.redis.__path__, "redflow.engines.redis.")
]
LOADED = {value.name: value for module in MODULES for value in vars(module).values() if isinstance(value, Script)}


def fake_library(monkeypatch: pytest.MonkeyPatch, texts: dict[str, str]) -> None:
    """Let the loader read these texts instead of the package's files."""
    monkeypatch.setattr(scripts, "_read", texts.__getitem__)


def test_every_verb_is_loaded_by_somebody_and_tested_one_by_one() -> None:
    assert sorted(LOADED) == VERBS
    tests = files("tests").joinpath("scripts")
    tested = {path.name for path in tests.iterdir()}
    together = {
        "unregister_worker": "register_worker",
        "schedule_crons": "fire_cron",
        "due_crons": "fire_cron",
        "check_claim": "start_away",
        "attach_child": "start_away",
        "attach_wait": "register_wait",
        "drop_wait": "register_wait",
        "receive_entries": "take_outgoing",
        "release_lock": "request_lock",
        "audit_locks": "request_lock",
        "note_lock": "request_lock",
        "fire_schedule": "set_schedule_pause",
    }
    assert {f"test_{together.get(name, name)}.py" for name in VERBS} <= tested


@pytest.mark.parametrize("name", VERBS)
async def test_the_server_compiles_each_verb_to_the_same_digest(bench: Bench, name: str) -> None:
    script = LOADED[name]
    assert as_text(await bench.read("SCRIPT", "LOAD", script.source)) == script.sha
    assert script.sha == hashlib.sha1(script.source.encode()).hexdigest()


@pytest.mark.parametrize("name", VERBS)
def test_each_include_stands_once_and_before_its_use(name: str) -> None:
    source = LOADED[name].source
    assert "-- include:" not in source
    assert source.startswith(f"-- verb: {name}\n")
    library = {path.name.removesuffix(".lua") for path in LUA.joinpath("lib").iterdir()}
    defined = re.findall(r"^local function (\w+)", source, re.MULTILINE)
    assert len(defined) == len(set(defined))
    for include in library:
        uses = [match.start() for match in re.finditer(rf"\b{include}\(", source)]
        assert not uses or source.index(f"local function {include}(") < uses[0] + len(include)


@pytest.mark.parametrize(
    ("args", "item", "complaint"),
    [
        ("now, limit, more", "", r"the caller sends args 'now, limit, more', the header says 'now, limit'"),
        ("limit, now", "", r"sends args 'limit, now'"),
        ("now, limit", "id", r"the caller sends item 'id', the header says ''"),
    ],
)
def test_a_caller_with_another_idea_of_the_contract_is_refused(args: str, item: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        verb("promote_runs", args=args, item=item)


def test_a_caller_that_forgets_the_items_is_refused() -> None:
    with pytest.raises(ValueError, match=r"script pass_bell: the caller sends item '', the header says 'queue'"):
        verb("pass_bell", args="worker")


def test_no_such_verb() -> None:
    with pytest.raises(FileNotFoundError):
        verb("no_such_verb")


def test_an_include_comes_after_all_that_it_asks_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_library(
        monkeypatch,
        {
            "top.lua": "-- verb: top\n-- args: none\n-- about it\n-- include: b\n-- include: a\nreturn a() + b()\n",
            "lib/a.lua": "-- include: c\nlocal function a() return c() end\n",
            "lib/b.lua": "-- include: a\n-- include: c\nlocal function b() return a() + c() end\n",
            "lib/c.lua": "local function c() return 1 end\n",
        },
    )
    assert verb("top").source == (
        "-- verb: top\n-- args: none\n-- about it\n"
        "local function c() return 1 end\n"
        "local function a() return c() end\n"
        "local function b() return a() + c() end\n"
        "return a() + b()\n"
    )


def test_includes_that_ask_for_each_other_end(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_library(
        monkeypatch,
        {
            "top.lua": "-- verb: top\n-- args: none\n-- include: a\nreturn a()\n",
            "lib/a.lua": "-- include: b\nA\n",
            "lib/b.lua": "-- include: a\nB\n",
        },
    )
    assert verb("top").source == "-- verb: top\n-- args: none\nB\nA\nreturn a()\n"


async def test_a_server_that_lost_its_scripts_is_sent_them_again(bench: Bench) -> None:
    await bench.serve()
    await bench.read("SCRIPT", "FLUSH")
    created = await bench.create()
    assert [run.lease.run_id for run in (await bench.claim()).runs] == [created]

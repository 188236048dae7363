"""The operators' commands on real data: each as a table and as JSON, and what they refuse."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from redflow import CronTrigger, EventTrigger, RedflowClient, create_client, define_workflow
from redflow.cli.texts import columns, json_text, safe
from redflow.errors import RedflowError
from redflow.registry import WorkflowRegistry
from redflow.types import JsonData, RunState
from redflow.worker import StartWorkerOptions, start_worker
from tests.cli.here import Here
from tests.support.world import Context, eventually

T = TypeVar("T")

EVIL = "\x1b[2J\u202e[red]x[/red]"
NOBODY = "run_00000000-0000-7000-8000-000000000000"


@dataclass
class Shop:
    """A prefix with runs in every state, made once for all tests of this module that only look."""

    here: Here
    url: str
    prefix: str

    def run(self, *arguments: str) -> tuple[int, str, str]:
        return self.here.run(*arguments, "--url", self.url, "--prefix", self.prefix)

    def told(self, *arguments: str) -> JsonData:
        code, out, err = self.run(*arguments, "--json")
        assert (code, err) == (0, ""), out + err
        return json.loads(out)

    def table(self, *arguments: str) -> list[list[str]]:
        """The rows of a table without the heads, cells apart by two spaces or more."""
        code, out, err = self.run(*arguments)
        assert code == 0, out + err
        assert re.fullmatch(r"[A-Z ]+", out.splitlines()[0]), out
        return [re.split(r"  +", line) for line in out.splitlines()[1:]]

    def refused(self, *arguments: str) -> str:
        return self.here.refused(*arguments, "--url", self.url, "--prefix", self.prefix)

    def client(self, ask: Callable[[RedflowClient], Awaitable[T]]) -> T:
        async def asked() -> T:
            client = create_client(url=self.url, prefix=self.prefix)
            try:
                return await ask(client)
            finally:
                await client.close()

        return asyncio.run(asked())

    def runs(self, status: str) -> list[str]:
        return [run["id"] for run in self.told("runs", "list", "--status", status)["runs"]]

    def state(self, run_id: str) -> RunState:
        state = self.client(lambda client: client.get_run(run_id))
        assert state is not None
        return state


def registry_of(shop: str = "shop") -> WorkflowRegistry:
    registry = WorkflowRegistry()

    async def charge(ctx: Context) -> object:
        async def reserve() -> str:
            return "reserved"

        await ctx.step.run("reserve", reserve)
        if ctx.input == "bad":
            raise LookupError(f"card {EVIL}")
        return {"charged": ctx.input}

    async def wait(ctx: Context) -> object:
        return await ctx.step.wait_for_event("paid", "paid", str(ctx.input), "1h")

    define_workflow("charge", handler=charge, registry=registry, max_attempts=1)
    crons = [CronTrigger("0 3 * * *", timezone="UTC", id="nightly", input={"n": 1})]
    define_workflow("wait", handler=wait, registry=registry, queue="slow", cron=crons, event=[EventTrigger("order")])
    return registry


async def stock(url: str, prefix: str) -> None:
    """Two runs that succeeded, two that failed, one that waits for an event, one that nobody knows."""
    registry = registry_of()
    options = StartWorkerOptions(app="shop", url=url, prefix=prefix, registry=registry, concurrency=5)
    worker = await start_worker(options)
    client = create_client(url=url, prefix=prefix)
    try:
        for value in (1, "bad", 2, "bad"):
            handle = await client.emit_workflow("charge", value)
            try:
                await handle.result()
            except RedflowError:
                assert value == "bad"
        asleep = await client.emit_workflow("wait", "k")

        async def status() -> str:
            state = await asleep.get_state()
            return "" if state is None else state["status"]

        await eventually(status, "it sleeps", until=lambda seen: seen == "scheduled")
        await client.run_by_name("nobody", {"text": EVIL}, queue_override="q")
    finally:
        await worker.stop()
        await client.close()


@pytest.fixture
def shop(here: Here, redis_url: str, prefix: str) -> Shop:
    asyncio.run(stock(redis_url, prefix))
    return Shop(here, redis_url, prefix)


# -- encrypted ---------------------------------------------------------------------------------------------------------

SECRET = "secret of a user"
KEYS = {"current": "k1", "keys": {"k1": base64.b64encode(b"k" * 32).decode()}, "require_encrypted": True}


async def stock_encrypted(url: str, prefix: str) -> str:
    """A run that fails, and a schedule, both encrypted; the run's id."""

    async def handler(ctx: Context) -> object:
        await ctx.step.run("work", lambda: SECRET)
        raise ValueError(SECRET)

    registry = WorkflowRegistry()
    cron = CronTrigger("0 0 1 1 *", "UTC", input={"cron": SECRET})
    define_workflow("w", handler=handler, registry=registry, max_attempts=1, cron=cron)
    worker = await start_worker(StartWorkerOptions(app="shop", url=url, prefix=prefix, registry=registry))
    client = create_client(url=url, prefix=prefix)
    try:
        handle = await client.emit_workflow("w", {"in": SECRET})
        with pytest.raises(RedflowError):
            await handle.result()
        return handle.id
    finally:
        await worker.stop()
        await client.close()


def test_encrypted_runs_are_shown_to_who_has_the_keys_and_the_rest_of_them_to_all(
    here: Here, redis_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Shop(here, redis_url, prefix)
    monkeypatch.setenv("REDFLOW_CODEC_KEYS", json.dumps(KEYS))
    run_id = asyncio.run(stock_encrypted(redis_url, prefix))
    shown = shop.run("runs", "show", run_id)[1]
    assert shown.count(SECRET) >= 4
    assert SECRET in shop.run("runs", "export")[1]
    (schedule,) = shop.told("schedules", "list")["schedules"]
    assert schedule["input"] == {"cron": SECRET}
    assert shop.run("schedules", "fire", schedule["id"])[0] == 0
    assert shop.run("runs", "rerun", run_id)[0] == 0
    monkeypatch.delenv("REDFLOW_CODEC_KEYS")
    code, out, err = shop.run("runs", "show", run_id)
    assert code == 0
    assert "failed" in out
    assert "not all of it can be shown: a payload is encrypted with key 'k1'" in err
    for command in (("runs", "list"), ("runs", "failures"), ("schedules", "list"), ("events", "list")):
        code, out, err = shop.run(*command)
        assert (code, err) == (0, ""), command
        assert SECRET not in out
    assert "PayloadKeyMissingError" in shop.run("runs", "failures")[1]
    for refused in (("runs", "export"), ("schedules", "fire", schedule["id"]), ("runs", "rerun", run_id)):
        assert "key 'k1'" in shop.refused(*refused)
    assert shop.run("runs", "retry", run_id)[0] == 0, "that needs no key"


# -- runs: looking -----------------------------------------------------------------------------------------------------


def test_runs_list(shop: Shop) -> None:
    told = shop.told("runs", "list")
    rows = shop.table("runs", "list")
    assert [row[0] for row in rows] == [run["id"] for run in told["runs"]]
    assert [row[1] for row in rows] == ["queued", "scheduled", "failed", "succeeded", "failed", "succeeded"]
    assert rows[2][2:4] == ["charge", "shop:default"]
    assert rows[2][-1] == r"LookupError: card \x1b[2J\u202e[red]x[/red]"
    first = shop.told("runs", "list", "--limit", "2", "--oldest-first")
    rest = shop.told("runs", "list", "--limit", "9", "--oldest-first", "--cursor", first["next_cursor"])
    assert [run["id"] for run in first["runs"] + rest["runs"]] == [row[0] for row in reversed(rows)]
    assert shop.run("runs", "list", "--limit", "2")[2] == f"more: --cursor {rows[1][0]}\n"
    for filters, count in (
        (("--status", "failed"), 2),
        (("--workflow", "charge"), 4),
        (("--queue", "shop:slow"), 1),
        (("--error", "LookupError"), 2),
        (("--query", "RESERVED"), 0),
        (("--after", "1h"), 6),
        (("--after", "2999-01-01"), 0),
        (("--before", "2000-01-01T00:00Z"), 0),
        (("--parent", NOBODY), 0),
    ):
        assert len(shop.told("runs", "list", *filters)["runs"]) == count, filters


def test_runs_show(shop: Shop) -> None:
    failed = shop.runs("failed")[0]
    told = shop.told("runs", "show", failed)
    assert told["run"] == shop.state(failed)
    assert [step["name"] for step in told["steps"]] == ["reserve"]
    assert told["attempts"][0]["status"] == "failed"
    assert told["explanation"]["waits_for"] == "nothing"
    code, out, _ = shop.run("runs", "show", failed)
    assert code == 0
    assert re.search(r"^status +failed$", out, re.M)
    assert re.search(r"^why +It failed at ", out, re.M)
    assert re.search(r'^1 +reserve +succeeded +1 +\d+ ms +"reserved"$', out, re.M)
    assert '"kind": "error"' in out
    assert re.search(r"^Traceback \(most recent call last\):$", out, re.M)
    assert "\\nTraceback" not in out
    assert shop.refused("runs", "show", NOBODY).startswith("redflow: there is no run run_0000")
    assert r"there is no run \x1b[2J\u202e[red]" in shop.refused("runs", "show", EVIL)


def test_nothing_from_elsewhere_reaches_the_terminal_as_a_control(shop: Shop) -> None:
    for arguments in (("list",), ("show", shop.runs("queued")[0]), ("show", shop.runs("failed")[0]), ("failures",)):
        for options in ((), ("--json",)):
            _, out, err = shop.run("runs", *arguments, *options)
            assert all(char.isprintable() or char == "\n" for char in out + err), arguments


def test_runs_failures(shop: Shop) -> None:
    told = shop.told("runs", "failures")
    assert [(group["workflow"], group["error"], group["count"]) for group in told["groups"]] == [
        ("charge", "LookupError", 2)
    ]
    assert shop.table("runs", "failures")[0][:3] == ["2", "charge", "LookupError"]
    assert shop.table("runs", "failures", "--after", "2999-01-01") == []
    assert "there are more: --scan" in shop.run("runs", "failures", "--scan", "1")[2]


def test_runs_tail_of_runs_that_have_ended(shop: Shop) -> None:
    for status, exit_code in (("succeeded", 0), ("failed", 1)):
        code, out, err = shop.run("runs", "tail", shop.runs(status)[0], "--json")
        assert (code, err) == (exit_code, "")
        events = [json.loads(line) for line in out.splitlines()]
        assert [event["status"] for event in events] == ["running", "succeeded", status]
        assert events[0]["step"] == "reserve"
    code, out, _ = shop.run("runs", "tail", shop.runs("succeeded")[0])
    assert re.fullmatch(r'\S+ \S+  run  succeeded \(attempt 1\)  {"charged": 2}', out.splitlines()[-1])
    code, out, err = shop.run("runs", "tail", shop.runs("scheduled")[0], "--timeout", "0")
    assert code == 4
    assert "has not ended within 0 s; it goes on" in err
    assert "there is no run" in shop.refused("runs", "tail", NOBODY)


def test_runs_tail_follows_a_run_to_its_end(shop: Shop) -> None:
    run_id = shop.runs("scheduled")[0]

    async def follow() -> tuple[int, str, str]:
        options = StartWorkerOptions(app="shop", url=shop.url, prefix=shop.prefix, registry=registry_of())
        worker = await start_worker(options)
        client = create_client(url=shop.url, prefix=shop.prefix)
        try:
            following = asyncio.create_task(asyncio.to_thread(shop.run, "runs", "tail", run_id, "--json"))
            await client.emit_event("paid", {"sum": 5}, correlation_key="k")
            return await following
        finally:
            await client.close()
            await worker.stop()

    code, out, err = asyncio.run(follow())
    assert (code, err) == (0, "")
    events = [json.loads(line) for line in out.splitlines()]
    assert [(event.get("step"), event["status"]) for event in events if "step" in event] == [
        ("paid", "running"),
        ("paid", "succeeded"),
    ]
    assert events[-1]["status"] == "succeeded"
    assert events[-1]["output"]["data"] == {"sum": 5}


def test_runs_export(shop: Shop, tmp_path: Path) -> None:
    code, out, _ = shop.run("runs", "export", "--workflow", "charge")
    assert code == 0
    runs = [json.loads(line) for line in out.splitlines()]
    assert [run["status"] for run in runs] == ["succeeded", "failed", "succeeded", "failed"]
    assert {key: runs[1][key] for key in runs[1] if key not in ("steps", "attempts")} == shop.state(runs[1]["id"])
    assert out.isascii()
    file = tmp_path / "runs.jsonl"
    code, out, err = shop.run("runs", "export", "--output", str(file))
    assert (code, out, err) == (0, "", f"6 runs written to {file}\n")
    assert len(file.read_text().splitlines()) == 6
    assert "can't be written" in shop.refused("runs", "export", "--output", str(tmp_path / "no" / "f"))


# -- runs: repairing ---------------------------------------------------------------------------------------------------


def test_runs_retry(shop: Shop) -> None:
    failed = shop.runs("failed")
    code, out, _ = shop.run("runs", "retry", failed[0], NOBODY)
    assert code == 1
    assert [line.split() for line in out.splitlines()[1:]] == [[failed[0], "retried"], [NOBODY, "unknown"]]
    assert shop.state(failed[0])["status"] == "queued"
    dry = shop.told("runs", "retry", "--error", "LookupError", "--dry-run")
    assert dry == {"action": "retry", "dry_run": True, "count": 1, "exact": True}
    assert shop.run("runs", "retry", "--error", "LookupError", "--dry-run")[1] == "1 run to retry\n"
    assert "1 run to retry; nothing was done: add --yes" in shop.refused("runs", "retry", "--error", "LookupError")
    assert shop.runs("failed") == failed[1:]
    assert shop.run("runs", "retry", "--error", "LookupError", "--yes")[:2] == (0, "retry: 1 of 1 runs\n")
    assert shop.runs("failed") == []
    assert shop.told("runs", "retry", "--all", "--yes")["total"] == 0


def test_runs_cancel(shop: Shop) -> None:
    waiting = shop.runs("scheduled")[0]
    told = shop.told("runs", "cancel", waiting, "--reason", "wrong")
    assert told == {"action": "cancel", "runs": {waiting: "canceled"}}
    assert shop.state(waiting)["cancel_reason"] == "wrong"
    done = shop.runs("succeeded")[0]
    assert shop.run("runs", "cancel", done)[0] == 1
    assert "1 run to cancel; nothing was done" in shop.refused("runs", "cancel", "--all")
    told = shop.told("runs", "cancel", "--all", "--yes", "--reason", "closing")
    assert (told["changed"], told["done"]) == (1, True)
    assert shop.runs("queued") == []


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("runs", "cancel"), "which runs?"),
        (("runs", "retry", NOBODY, "--workflow", "w"), "not both"),
        (("runs", "retry", NOBODY, "--all"), "not both"),
        (("runs", "cancel", NOBODY, "--dry-run"), "--dry-run is for filters"),
        (("runs", "cancel", "--status", "failed", "--yes"), "cancel is for runs that are"),
        (("runs", "cancel", "--all", "--yes", "--reason", "a\x07"), "reason"),
        (("runs", "list", "--after", "yesterday"), "--after must be a time such as"),
        (("runs", "list", "--query", "x" * 1001), "query is too long"),
        (("runs", "rerun", NOBODY), "there is no run"),
        (("runs", "rerun", NOBODY, "--input", "{"), "--input is not JSON"),
        (("events", "show", "x"), "there is no event x"),
        (("events", "emit", " "), "event"),
        (("events", "emit", "e", "--input", "{}", "--input-file", "f"), "not both"),
        (("queues", "pause", "nobody"), "there is no queue 'nobody'"),
        (("workflows", "resume", "chrage"), "(did you mean charge?)"),
        (("schedules", "fire", "x"), "there is no schedule 'x'"),
        (("workers", "drain", "x"), "there is no live worker 'x'"),
    ],
)
def test_what_is_refused(here: Here, redis_url: str, prefix: str, arguments: tuple[str, ...], why: str) -> None:
    async def register() -> None:
        client = create_client(url=redis_url, prefix=prefix)
        await client.sync_registry(registry_of(), app="shop")
        await client.close()

    asyncio.run(register())
    assert why in here.refused(*arguments, "--url", redis_url, "--prefix", prefix)


def test_no_server(here: Here) -> None:
    assert "127.0.0.1:1" in here.refused("stats", "--url", "redis://127.0.0.1:1")


def test_runs_rerun(shop: Shop) -> None:
    old = shop.runs("failed")[0]
    code, out, _ = shop.run("runs", "rerun", old, "--input", "3")
    assert code == 0
    assert (shop.state(out.strip())["rerun_of"], shop.state(out.strip())["input"]) == (old, 3)
    told = shop.told("runs", "rerun", old)
    assert (told["rerun_of"], shop.state(told["id"])["input"]) == (old, "bad")


# -- the rest ----------------------------------------------------------------------------------------------------------


def test_events(shop: Shop) -> None:
    told = shop.told("events", "emit", "paid", "--key", "k", "--input", '{"sum": 5}', "--id", "e1")
    assert (told["event_id"], told["run_ids"], len(told["resumed_run_ids"])) == ("e1", [], 1)
    code, out, _ = shop.run("events", "emit", "order", "--input", '"x"')
    assert code == 0
    assert re.fullmatch(r"event  evt_\S+\nstarted 1  run_\S+\n", out)
    listed = shop.told("events", "list")["events"]
    assert [event["name"] for event in listed] == ["order", "paid"]
    assert [row[1] for row in shop.table("events", "list")] == ["order", "paid"]
    assert [event["id"] for event in shop.told("events", "list", "--name", "paid")["events"]] == ["e1"]
    assert len(shop.told("events", "list", "--status", "no-subscribers")["events"]) == 1
    page = shop.told("events", "list", "--limit", "1")
    assert shop.told("events", "list", "--cursor", page["next_cursor"])["events"][0]["id"] == "e1"
    shown = shop.told("events", "show", "e1")
    assert (shown["data"], shown["resumed_run_ids"]) == ({"sum": 5}, told["resumed_run_ids"])
    code, out, _ = shop.run("events", "show", listed[0]["id"])
    assert code == 0
    assert re.search(r"^wait +shop:slow +delivered +run_\S+$", out, re.M)
    assert shop.run("events", "show", "e1")[1].count(told["resumed_run_ids"][0]) == 1


def test_queues_and_workflows(shop: Shop) -> None:
    assert [row[0] for row in shop.table("queues", "list")] == ["shop:default", "shop:slow"]
    assert [row[0] for row in shop.table("workflows", "list")] == ["charge", "wait"]
    assert shop.told("workflows", "list")["workflows"][0]["by_status"]["failed"] == 2
    assert shop.run("queues", "pause", "shop:slow", "--reason", "night")[:2] == (0, "shop:slow: paused\n")
    assert shop.told("queues", "pause", "shop:slow") == {"name": "shop:slow", "paused": True, "changed": False}
    assert shop.told("queues", "list")["queues"][1]["paused"]["reason"] == "night"
    assert shop.table("queues", "list")[1][6].endswith("(night)")
    assert shop.told("workflows", "pause", "charge")["changed"]
    assert shop.run("stats")[1].endswith("paused queue: shop:slow\npaused workflow: charge\n")
    assert shop.told("stats")["paused"] == {"queues": ["shop:slow"], "workflows": ["charge"]}
    assert shop.told("queues", "resume", "shop:slow")["changed"]
    assert shop.run("workflows", "resume", "charge")[1] == "charge: resumed\n"
    assert shop.run("workflows", "resume", "charge")[1] == "charge: nothing to change\n"
    assert "paused" not in shop.told("stats")


def test_schedules(shop: Shop) -> None:
    (info,) = shop.told("schedules", "list", "--upcoming", "2")["schedules"]
    assert (info["workflow"], info["trigger_id"], len(info["upcoming"])) == ("wait", "nightly", 2)
    (row,) = shop.table("schedules", "list")
    assert row[:3] == [info["id"], "wait", "0 3 * * *"]
    assert shop.told("schedules", "pause", info["id"], "--reason", "r")["changed"]
    assert shop.table("schedules", "list")[0][4] == "paused (r)"
    assert shop.run("schedules", "resume", info["id"])[1] == f"{info['id']}: resumed\n"
    code, out, _ = shop.run("schedules", "fire", info["id"])
    assert (code, shop.state(out.strip())["input"]) == (0, {"n": 1})
    assert shop.state(shop.told("schedules", "fire", info["id"])["id"])["workflow"] == "wait"


def test_stats(shop: Shop) -> None:
    told = shop.told("stats")
    assert (told["total"], told["by_status"]["failed"]) == (6, 2)
    assert ["failed", "2"] in shop.table("stats")
    code, out, _ = shop.run("stats", "--watch", "--count", "2", "--interval", "0.1", "--json")
    looks = [json.loads(line) for line in out.splitlines()]
    assert (code, len(looks), looks[1]["ended_per_second"]) == (0, 2, 0.0)


def test_workers(shop: Shop) -> None:
    async def with_a_worker() -> None:
        options = StartWorkerOptions(app="shop", url=shop.url, prefix=shop.prefix, registry=registry_of())
        worker = await start_worker(options)
        try:
            (row,) = await asyncio.to_thread(shop.table, "workers", "list")
            assert row[:4] == [worker.id, "shop", "0/1", "shop:default, shop:slow"]
            assert row[-1] == "claims"
            told = await asyncio.to_thread(shop.told, "workers", "list")
            assert told["workers"][0]["workflows"] == ["charge", "wait"]
            await asyncio.to_thread(shop.run, "workers", "drain", worker.id)
            assert (await asyncio.to_thread(shop.table, "workers", "list"))[0][-1] == "drained"
            assert await asyncio.to_thread(shop.told, "workers", "resume", worker.id) == {
                "id": worker.id,
                "claims": True,
            }
        finally:
            await worker.stop()

    asyncio.run(with_a_worker())
    assert shop.table("workers", "list") == []


# -- texts -------------------------------------------------------------------------------------------------------------


def test_texts_are_made_harmless() -> None:
    assert safe("plain é 漢字 😀") == "plain é 漢字 😀"
    assert safe("a\tb\nc\r\x1b\x7f\x9b\u202e\u2028\ud800\U000e0001") == (
        r"a\tb\nc\r\x1b\x7f\x9b\u202e\u2028\ud800\U000e0001"
    )
    assert safe("a\n\tb\x1b", lines=True) == "a\n\tb\\x1b"
    value = {"é\u202e": ["\x9b", "\ud800", "\x1b", "漢"]}
    text = json_text(value)
    assert json.loads(text) == value
    assert text == '{"é\\u202e": ["\\u009b", "\\ud800", "\\u001b", "漢"]}'


def test_columns_stand_below_each_other_whatever_stands_in_them() -> None:
    rows = columns(("A", "B"), [("漢字", "1"), ("e\u0301", "2"), ("\n", "3")])
    assert rows == ["A     B", "漢字  1", "e\u0301     2", "\\n    3"]

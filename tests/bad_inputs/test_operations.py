"""Clients and operations: servers that can't be used, users that may not, queries and ids that make no sense."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from redflow import RedflowError, StartWorkerOptions, TimeoutError, create_client, define_workflow, start_worker
from redflow.errors import ConnectionError, LimitExceededError
from redflow.registry import WorkflowRegistry
from redflow.types import ListEventsParams, ListRunsParams, SearchRunsParams, WorkflowCall
from tests.bad_inputs.table import Refused, judge_refusal, snapshot
from tests.support.servers import ServerOptions, ServerProcess
from tests.support.world import Context, World, impatient

SECRET = "s3cret-canary"


async def handler(ctx: Context) -> object:
    return ctx.input


def made(url: Any) -> Callable[[World], Any]:
    return lambda _: create_client(url=url)


URL_ROWS = [
    Refused(f"url {url!r}"[:50], made(url), ValueError, (said,), (SECRET,))
    for url, said in {
        "": "redis://",
        "http://x": "http",
        f"http://u:{SECRET}@x": "redis://",
        "localhost:6379": "redis://",
        f"redis://u:{SECRET}@x:port": "port",
        f"redis://u:{SECRET}@x:70000": "port",
        f"redis://u:{SECRET}@x:-1": "port",
        f"redis://:{SECRET}@x/abc": "abc",
        "redis+sentinel://x:1": "master",
        f"redis+cluster://:{SECRET}@": "host",
        "unix://": "path",
        "\0": "redis://",
    }.items()
    if url != ""
]


@pytest.fixture
def dead_port() -> Iterator[int]:
    """A port that refuses connections as long as the test lasts."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        yield int(taken.getsockname()[1])


@pytest.mark.parametrize("row", URL_ROWS, ids=lambda row: row.name)
async def test_urls(world: World, row: Refused) -> None:
    await judge_refusal(world, row)


async def test_a_wrong_port_names_the_server_and_no_password(dead_port: int) -> None:
    client = impatient(create_client(url=f"redis://u:{SECRET}@127.0.0.1:{dead_port}", prefix="p"))
    with pytest.raises(ConnectionError, match=f"can't reach .*127.0.0.1:{dead_port}") as caught:
        await client.emit_workflow("w", 1)
    assert SECRET not in f"{caught.value!r} {caught.value} {client!r}"
    await client.close()


async def test_a_worker_on_a_wrong_port_does_not_start(dead_port: int) -> None:
    options = StartWorkerOptions(app="a", url=f"redis://:{SECRET}@127.0.0.1:{dead_port}", registry=WorkflowRegistry())
    with pytest.raises(ConnectionError, match=str(dead_port)) as caught:
        await start_worker(options)
    assert SECRET not in str(caught.value)


# --- users ------------------------------------------------------------------------------------------------------

DENIED = {
    "evalsha": "~* &* +@all -evalsha",
    "hset": "~* &* +@all -hset",
    "script's zadd": "~* &* +@all -zadd",
    "keys": "~other* &* +@all",
    "all": "~* &* -@all",
}


@pytest.mark.parametrize("what", DENIED)
async def test_a_user_that_may_not_is_told_the_command(
    private_server: Callable[[ServerOptions], ServerProcess], what: str
) -> None:
    server = private_server(ServerOptions(users=(f"app on >{SECRET} {DENIED[what]}",)))
    client = impatient(create_client(url=f"redis://app:{SECRET}@127.0.0.1:{server.port}", prefix="p"))
    with pytest.raises(RedflowError, match=r"(?i)(noperm|permission)") as caught:
        await client.run_by_name("w", 1, queue_override="q")
    said = str(caught.value)
    assert SECRET not in said
    if what in ("evalsha", "hset", "script's zadd"):
        assert what.split()[-1] in said.lower()
    await client.close()


# --- queries ----------------------------------------------------------------------------------------------------

QUERY_ROWS = [
    Refused("search for a megabyte", lambda w: w.client.search_runs(SearchRunsParams(query="x" * 1_000_000)),
            LimitExceededError, ("query", "1000000")),
    Refused("search for a number", lambda w: w.client.search_runs(SearchRunsParams(query=5)),
            ValueError, ("query", "int")),
    *[
        Refused(f"status {value!r}", lambda w, call=call, value=value: call(w, value), ValueError, ("status",))
        for call in (
            lambda w, v: w.client.list_runs(ListRunsParams(status=v)),
            lambda w, v: w.client.search_runs(SearchRunsParams(status=v)),
        )
        for value in ("done", 5, "Running")
    ],
    *[
        Refused(f"{field} {value!r}", lambda w, field=field, value=value: w.client.search_runs(
            SearchRunsParams(**{field: value})), ValueError, (field,))
        for field in ("created_after", "created_before")
        for value in ("x", float("nan"), True)
    ],
    Refused("1,001 calls", lambda w: w.client.emit_workflows([WorkflowCall("w", 1)] * 1001), LimitExceededError,
            ("1000", "1001")),
    Refused("no call", lambda w: w.client.emit_workflows(["w"]), TypeError, ("WorkflowCall", "str")),
]  # fmt: skip


@pytest.mark.parametrize("row", QUERY_ROWS, ids=lambda row: row.name)
async def test_queries(world: World, row: Refused) -> None:
    define_workflow("w", handler=handler, registry=world.registry)
    await world.client.sync_registry(world.registry, app="app")
    await judge_refusal(world, row)


ODD_IDS: tuple[Any, ...] = (
    "x", "", "run_", "a:b", "{x}", "run_*", "*", "\0", "\ud800", "x" * 10_000, None, 5, b"run_1", "../x",
    "run_00000000-0000-7000-8000-00000000000g", "run_00000000-0000-7000-8000-000000000000 ", "RUN_" + "0" * 32,
)  # fmt: skip


@pytest.mark.parametrize("odd", ODD_IDS, ids=lambda odd: repr(odd)[:30])
async def test_ids_of_nothing(world: World, odd: Any) -> None:
    client = world.client
    before = await snapshot(world)
    assert await client.get_run(odd) is None
    assert await client.get_run_steps(odd) == []
    assert await client.get_run_attempts(odd) == []
    assert await client.explain_run(odd) is None
    assert await client.cancel_run(odd) is False
    assert await client.get_event(odd) is None
    assert await client.get_workflow_meta(odd) is None
    assert await client.list_runs(ListRunsParams(cursor=odd or "none")) == []
    assert await client.list_events(ListEventsParams(cursor=odd or "none")) == []
    assert await snapshot(world) == before


LITERAL = ["*", "a*b?[c]", "%", "\\", "[", "(a+)+$", ".*", "' OR 1=1", "\0", "\u202e"]


async def test_searches_are_for_the_text_itself(world: World) -> None:
    define_workflow("w", handler=handler, registry=world.registry)
    await world.client.sync_registry(world.registry, app="app")
    for text in LITERAL[:-2]:
        await world.start(text)
    for text in LITERAL[:-2]:
        found = await world.client.search_runs(SearchRunsParams(query=text))
        assert len(found["runs"]) >= (text == "*" or text in "\\[")
        for run in found["runs"]:
            state = await world.client.get_run(run["id"])
            assert state is not None
            assert text in f"{state['input']}" or text in str(state)


async def test_a_result_that_is_late_leaves_the_run_alone(world: World) -> None:
    define_workflow("w", handler=handler, registry=world.registry)
    await world.client.sync_registry(world.registry, app="app")
    handle = await world.start(5)
    for timeout_ms in (0, 1, -1):
        with pytest.raises(TimeoutError, match=handle.id):
            await handle.result(timeout_ms=timeout_ms)
    await world.worker()
    assert await handle.result() == 5


async def test_a_closed_client_says_so(world: World) -> None:
    client = world.new_client()
    await client.close()
    for call in (
        client.emit_workflow("w", 1),
        client.emit_event("e", 1),
        client.get_run("run_00000000-0000-7000-8000-000000000000"),
    ):
        with pytest.raises(ConnectionError, match="closed"):
            await call

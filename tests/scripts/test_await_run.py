"""await_run: a client registers at a run and reads it, in one instant."""

from __future__ import annotations

import pytest

from redflow.engines.redis.link import Reply
from redflow.engines.redis.replies import as_int
from redflow.engines.redis.results import AWAIT
from tests.support.scripts import BIG, ERROR, Bench, changes, run_id


async def await_run(bench: Bench, run: str, client: str = "c1") -> Reply:
    return await bench.connection.call(AWAIT, bench.keys.base, (run, client, 300))


async def test_a_client_is_entered_with_a_time_to_live(bench: Bench) -> None:
    await bench.serve()
    run = await bench.create()
    before = await bench.values()
    assert await await_run(bench, run) == [b"queued", None, None, None, None]
    assert await await_run(bench, run, "c2") == [b"queued", None, None, None, None]
    assert changes(before, await bench.values()) == {f"waiters:{run}": {"c1", "c2"}}
    assert 290 < as_int(await bench.read("TTL", f"@waiters:{run}")) <= 300


@pytest.mark.parametrize(
    ("outcome", "payload", "wanted"),
    [
        ("succeeded", b"7", [b"succeeded", b"7", None, None, None]),
        ("succeeded", BIG, [b"succeeded", b"@", None, None, None]),
        ("failed", ERROR, [b"failed", None, ERROR, None, None]),
        ("canceled", b"", [b"canceled", None, None, None, None]),
    ],
)
async def test_a_run_that_is_over_is_only_read(
    bench: Bench, outcome: str, payload: bytes, wanted: list[bytes | None]
) -> None:
    await bench.serve()
    lease = await bench.running()
    await bench.settle(lease, outcome, payload)
    before = await bench.values()
    assert await await_run(bench, lease.run_id) == wanted
    assert changes(before, await bench.values()) == {}


async def test_an_unknown_run_leaves_nothing_behind(bench: Bench) -> None:
    before = await bench.values()
    assert await await_run(bench, run_id(99)) == [None] * 5
    assert changes(before, await bench.values()) == {}

"""confirm_step: whether a step stands in the record of a run that this holder has."""

from __future__ import annotations

from dataclasses import replace

from redflow.engines.redis.runs import CONFIRM, Lease
from tests.support.scripts import Bench, changes


async def confirm(bench: Bench, lease: Lease, field: str) -> bytes:
    args = (lease.run_id, lease.fence, lease.token, field)
    answer = await bench.scripts.connection.call(CONFIRM, bench.scripts.keys.base, args)
    assert isinstance(answer, bytes)
    return answer


async def test_it_answers_for_its_holder_only_and_writes_nothing(bench: Bench) -> None:
    await bench.serve()
    lease = await bench.running()
    await bench.scripts.connection.read("HSET", bench.scripts.keys.run(lease.run_id), "s:one", "1 S 1 0 0 1")
    before = await bench.values()
    assert await confirm(bench, lease, "s:one") == b"ok"
    assert await confirm(bench, lease, "s:two") == b"missing"
    assert await confirm(bench, replace(lease, fence=lease.fence + 1), "s:one") == b"stale"
    assert await confirm(bench, replace(lease, token="other"), "s:one") == b"stale"
    assert await confirm(bench, replace(lease, run_id="0" * 32), "s:one") == b"gone"
    assert changes(before, await bench.values()) == {}

"""try_commands: which commands are refused, and that nothing stays behind."""

from __future__ import annotations

from redflow.engines.redis.doctor import TRIED, TRY_COMMANDS
from tests.support.scripts import Bench, changes


async def test_whoever_may_do_all_is_refused_nothing_and_nothing_stays(bench: Bench) -> None:
    await bench.serve()
    before = await bench.values()
    call, base = bench.scripts.connection.call, bench.scripts.keys.base
    assert await call(TRY_COMMANDS, base, TRIED) == []
    assert changes(before, await bench.values()) == {}
    assert await call(TRY_COMMANDS, base, ("HSET K f", "GET K", "NOSUCH K")) == [], "other errors are not refusals"
    assert changes(before, await bench.values()) == {}

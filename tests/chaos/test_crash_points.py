"""A seeded share of the crash points of every scenario; `make crash-points` plays them all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.crash_points import SCENARIOS, Enumerator
from tests.chaos.processes import ForkServer
from tests.chaos.sources import make_sources
from tests.support.servers import ServerOptions, ServerProcess

SEED = 6
BUDGET_S = 60.0


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.timeout(240)
async def test_a_share_of_the_crash_points_breaks_nothing(
    private_server: Callable[[ServerOptions], ServerProcess], tmp_path: Path
) -> None:
    server = private_server(ServerOptions(appendonly=True))
    sources = make_sources(tmp_path)
    async with ForkServer(sources) as fork:
        enumerator = Enumerator(server, fork, sources, tmp_path, SEED)
        report = await enumerator.run(tuple(SCENARIOS), 0.05, 8, BUDGET_S)
    assert not report.bad, report.text()
    hits = sum(report.hits().values())
    assert hits >= 40, f"only {hits} points were hit:\n{report.text()}"

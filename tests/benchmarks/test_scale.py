"""The benchmarks of very many runs and workers, in small: they measure, and nothing is lost on the way."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from redis.asyncio import Redis

from benchmarks import acceptance, backlog, bursts, dashboard, prices, workers
from benchmarks.acceptance import SCALE_LIMITS, Limit
from benchmarks.harness import Report, Settings
from benchmarks.stalls import watching_scripts

_TINY: Final = Settings(n=400, reps=1, concurrency=20, seconds=0.5)


def measured(report: Report) -> None:
    """Every figure that has a limit is there. How busy the machine is says whether it is kept."""
    limits = [limit for limit in SCALE_LIMITS if limit.benchmark == report.benchmark]
    assert limits
    for limit in limits:
        assert report.figures.get(limit.figure).median > 0


def test_claims_and_drains_beside_a_backlog(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "DEEP", 1_500)
    monkeypatch.setattr(backlog, "DRAINED", 500)
    measured(backlog.BENCHMARK.run(replace(_TINY, n=2_000, url=redis_url)))


def test_runs_that_fall_due_or_expire_at_once(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bursts, "PROMOTERS", (1, 2))
    report = bursts.BENCHMARK.run(replace(_TINY, url=redis_url))
    measured(report)
    assert report.figures.get("due, 1 worker: create of others, p50").median > 0


def test_pages_of_the_dashboard(redis_url: str) -> None:
    report = dashboard.BENCHMARK.run(replace(_TINY, n=1_500, url=redis_url))
    measured(report)
    assert report.figures.get("run with children: p50").median > 0


def test_prices(redis_url: str) -> None:
    report = prices.BENCHMARK.run(replace(_TINY, n=500, url=redis_url))
    measured(report)
    one, _, many = (report.figures.get(f"batches of {batch}: a life").median for batch in prices.BATCHES)
    assert one > many, "runs that share their trips must cost the server less"


def test_the_curve_of_workers(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "PROCESSES", (1, 2))
    report = workers.BENCHMARK.run(replace(_TINY, n=200, url=redis_url))
    for kind in workers.KINDS:
        assert 0 <= report.figures.get(f"{kind}, 2: least share").median <= 1
        assert report.figures.get(f"{kind}, 1: server CPU a run").median > 0
    assert any(note.lstrip().startswith("working: processes") for note in report.figures.notes)


async def test_the_longest_script_is_found(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as redis:
        former = await redis.config_get("slowlog-*")
        async with watching_scripts(redis) as stalls:
            await redis.eval("for i = 1, 3000000 do end", 0)
        assert await redis.config_get("slowlog-*") == former
    assert stalls.longest("a script") > 1
    assert stalls.over(stalls.longest("a script") / 2) >= 1
    assert stalls.longest("purge_runs") <= 0.2
    assert stalls.without_core is not None or sys.platform != "linux"


def test_scale_is_judged(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = f"scale --short --only prices --n 500 --url {redis_url} --results {tmp_path}".split()
    monkeypatch.setattr(sys, "argv", ["acceptance", *arguments])
    monkeypatch.setattr(acceptance, "SCALE_LIMITS", (Limit("prices", "batches of 1: a life", "at most", 1),))
    assert acceptance.main() == 1
    assert "missed: prices: batches of 1: a life, at most 1" in capsys.readouterr().err

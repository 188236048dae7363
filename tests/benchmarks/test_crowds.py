"""The benchmarks of what runs do to each other, in small: they measure, and what must never happen doesn't."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import acceptance, blocked, fanout, mutex, pages, races, waiters
from benchmarks.acceptance import CONTRACT_LIMITS, Limit
from benchmarks.harness import Report, Settings
from benchmarks.pages import SCANS
from tests.support.races import KINDS, Balance

_TINY = Settings(n=20, reps=1, concurrency=20, seconds=0.3)


def kept(report: Report) -> list[Limit]:
    """The limits of counts, not of times, of a benchmark; all must be kept, however busy the machine is."""
    limits = [limit for limit in CONTRACT_LIMITS if limit.benchmark == report.benchmark and limit.bound == 0]
    for limit in limits:
        assert limit.holds(report.figures.get(limit.figure).median), limit
    return limits


def test_races(redis_url: str) -> None:
    report = races.BENCHMARK.run(replace(_TINY, url=redis_url))
    assert len(kept(report)) == len(KINDS)
    for kind in KINDS:
        assert report.figures.get(f"{kind.name}: races").median == 20
        assert sum(report.figures.get(f"{kind.name}: {side}").median for side in kind.sides) == pytest.approx(100)


def test_all_waiters_go_on_once_and_soon(redis_url: str) -> None:
    report = waiters.BENCHMARK.run(replace(_TINY, n=300, url=redis_url))
    assert len(kept(report)) == 1
    assert report.figures.get("resumed").median == 300
    assert report.figures.get("emit to the last result").median <= 5


def test_a_fan_out_is_measured_beside_one_run(redis_url: str) -> None:
    report = fanout.BENCHMARK.run(replace(_TINY, n=1, concurrency=200, url=redis_url))
    for limit in CONTRACT_LIMITS:
        if limit.benchmark == "fanout":
            assert report.figures.get(limit.figure).median > 1


def test_runs_of_one_mutex_key_never_overlap(redis_url: str) -> None:
    report = mutex.BENCHMARK.run(replace(_TINY, n=200, url=redis_url))
    assert len(kept(report)) == 1
    assert 0 < report.figures.get("commands").median < 20
    assert report.figures.get("hand-over p50").median > 0


def test_blocked_runs_stay_blocked_and_others_pass(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocked, "BLOCKED", 40)
    report = blocked.BENCHMARK.run(replace(_TINY, url=redis_url))
    for limit in CONTRACT_LIMITS:
        if limit.benchmark == "blocked":
            assert report.figures.get(limit.figure).median > 0


def test_every_question_gets_a_full_page(redis_url: str) -> None:
    report = pages.BENCHMARK.run(replace(_TINY, n=1_500, seconds=1, url=redis_url))
    assert report.figures.get("dearest of all").median > 0
    assert {f"{scan}: large" for scan in SCANS} <= {figure.name for figure in report.figures.all()}


def test_the_contract_is_judged(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = f"contract --only waiters --n 10 --reps 1 --url {redis_url} --results {tmp_path}".split()
    monkeypatch.setattr(sys, "argv", ["acceptance", *arguments])
    assert acceptance.main() == 0
    assert "waiters: resumed" not in capsys.readouterr().out.split("== acceptance")[1]
    impossible = Limit("waiters", "resumed", "at least", 11)
    monkeypatch.setattr(acceptance, "CONTRACT_LIMITS", (impossible,))
    assert acceptance.main() == 1
    assert "missed: waiters: resumed, at least 11" in capsys.readouterr().err


def test_a_side_that_always_loses_gets_more_time() -> None:
    balance = Balance()
    for _ in range(20):
        balance.learn(came_late=True)
    assert all(balance.draw() < -0.01 for _ in range(20))
    for _ in range(40):
        balance.learn(came_late=False)
    assert all(balance.draw() > 0.01 for _ in range(20))

"""The benchmarks run, tell the truth about what they ran on, and don't let a wrong figure pass."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from benchmarks import __main__ as every
from benchmarks import acceptance, enqueue, latency, runs, workflows
from benchmarks.acceptance import LIMITS, Limit, missed, summary
from benchmarks.bench import Bench, Benchmark, main
from benchmarks.harness import BenchmarkError, Figures, LoopKind, Report, Settings, number, percentile, table
from benchmarks.load import check_one_step, check_ten_steps, emit, nothing_left, read_back, run_load
from benchmarks.worker import run_on
from redflow import RunState, StepState
from redflow.engines.redis.keys import Keys
from tests.support.servers import ServerKind

_TINY: Final = Settings(n=20, reps=1, concurrency=5, seconds=0.3)
_MAIN_FIGURES: Final = {
    "enqueue": {"concurrency 1", "concurrency 5"},
    "runs": {"live", "live: worker CPU", "draining", "draining: round trips"},
    "steps": {"steps", "script calls"},
    "latency": {"p50", "p99"},
    "memory": {"tiny payloads: allocated", "tiny payloads: run", "200-byte payloads: all keys"},
    "trips": {"script calls for 1,000 runs", "top-level commands", "  create_runs", "ten-step runs: script calls"},
    "idle": {"top-level commands", "commands inside scripts"},
}


@pytest.mark.parametrize("benchmark", every.BENCHMARKS, ids=lambda benchmark: benchmark.name)
def test_each_benchmark_measures(benchmark: Benchmark, redis_url: str) -> None:
    report = benchmark.run(replace(_TINY, url=redis_url))
    figures = {figure.name: figure for figure in report.figures.all()}
    assert figures.keys() >= _MAIN_FIGURES[benchmark.name]
    assert all(len(figure.runs) == 1 for figure in figures.values())
    if benchmark.name not in ("idle", "memory"):  # an idle worker may do nothing at all, a shared server shrink
        assert all(figure.median > 0 for figure in figures.values())


def test_one_step_run_costs_four_scripts_when_it_shares_them_with_nobody(redis_url: str) -> None:
    report = next(b for b in every.BENCHMARKS if b.name == "trips").run(replace(_TINY, n=100, url=redis_url))
    # create, claim, record, settle; the rest is what the worker does anyway in that time
    assert 4 <= report.figures.get("script calls").median < 4.5


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_command_prints_and_writes_everything(
    loop: LoopKind,
    server_kind: ServerKind,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip(loop)
    arguments = f"--n 10 --reps 2 --loop {loop} --server {server_kind} --persistence always --results {tmp_path}"
    monkeypatch.setattr(sys, "argv", ["enqueue", *arguments.split()])
    assert main(enqueue.BENCHMARK) == 0
    printed = capsys.readouterr().out
    (path,) = tmp_path.iterdir()
    for told in ("redis-py", "hiredis", "cpus", "appendonly yes, appendfsync always", "load average", str(path)):
        assert told in printed
    written = json.loads(path.read_text("utf-8"))
    assert written["settings"]["persistence"] == "always"
    assert [(f["name"], len(f["runs"])) for f in written["figures"]] == [("concurrency 1", 2), ("concurrency 100", 2)]


def test_a_failed_measurement_is_one_line_and_no_result(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def lose_one(bench: Bench) -> None:
        raise BenchmarkError("run 7 is lost")

    monkeypatch.setattr(sys, "argv", ["runs", "--url", redis_url, "--results", str(tmp_path)])
    assert main(replace(runs.BENCHMARK, measure=lose_one)) == 1
    assert capsys.readouterr() == ("", "== runs: failed: run 7 is lost\n")
    assert not list(tmp_path.iterdir())


# --- what makes a figure count ----------------------------------------------------------------------------------------


def test_wrong_or_missing_runs_are_found(redis_url: str) -> None:
    async def measure(bench: Bench) -> None:
        async with bench.world() as client:
            ids = await emit(client, workflows.ONE_STEP.name, 3, 2)
            with pytest.raises(BenchmarkError, match=r"run 0 .*ended as queued"):
                await read_back(client, ids, check_one_step)
            await client.reset_runs()
            with pytest.raises(BenchmarkError, match="is lost"):
                await read_back(client, ids, check_one_step)

    replace(runs.BENCHMARK, measure=measure).run(replace(_TINY, url=redis_url))


def test_what_is_left_behind_is_found(redis_url: str) -> None:
    async def measure(bench: Bench) -> None:
        async with bench.world() as client:
            await nothing_left(client)
            await emit(client, workflows.ONE_STEP.name, 1, 1)
            with pytest.raises(BenchmarkError, match="1 runs are left"):
                await nothing_left(client)
            await client.reset_runs()
            await client.connection.read("ZADD", Keys.of(client.prefix).base + "leases", 1, "0" * 32)
            with pytest.raises(BenchmarkError, match="keys left behind are wrong: leases"):
                await nothing_left(client)

    replace(runs.BENCHMARK, measure=measure).run(replace(_TINY, url=redis_url))


def test_a_run_counts_only_if_the_check_finds_nothing(redis_url: str) -> None:
    async def measure(bench: Bench) -> None:
        with pytest.raises(BenchmarkError, match=r"run 0 .*: not what I wanted"):
            await run_load(bench, "live", workflows.ONE_STEP.name, lambda *_: "not what I wanted")

    replace(runs.BENCHMARK, measure=measure).run(replace(_TINY, url=redis_url))


def test_checks_of_the_measured_workflows() -> None:
    state: RunState = {
        "id": "run_x",
        "workflow": "one-step",
        "queue": "q",
        "status": "succeeded",
        "input": {"n": 4},
        "output": {"n": 8},
        "attempt": 1,
        "max_attempts": 3,
        "created_at": 1,
    }
    step: StepState = {
        "name": "double",
        "status": "succeeded",
        "seq": 1,
        "attempt": 1,
        "started_at": 1,
        "output": {"n": 8},
    }
    assert check_one_step(4, state, [step]) == ""
    assert "ended as" in check_one_step(5, state, [step])
    assert "its steps" in check_one_step(4, state, [])
    assert "its steps" in check_one_step(4, state, [{**step, "status": "running"}])
    ten: RunState = {**state, "output": 14}
    steps: list[StepState] = [{**step, "name": f"add-{i}", "output": 5 + i} for i in range(10)]
    assert check_ten_steps(4, ten, steps) == ""
    assert "its steps" in check_ten_steps(4, ten, steps[:9])
    assert "ended as" in check_ten_steps(3, ten, steps)


# --- limits -----------------------------------------------------------------------------------------------------------


def _report(benchmark: str, figures: dict[str, float]) -> Report:
    measured = Figures()
    for name, value in figures.items():
        measured.add(name, value, "u")
    return Report(benchmark, "t", _TINY, {}, 0.0, 0.0, measured)


def _reports(*, p99: float) -> dict[str, Report]:
    return {
        "idle": _report("idle", {"top-level commands": 1.9}),
        "trips": _report("trips", {"script calls for 1,000 runs": 4050}),
        "latency": _report("latency", {"p50": 1.0, "p99": p99}),
        "runs": _report("runs", {"live": 1500, "draining": 9000, "live: worker CPU": 0.1}),
    }


def test_limits_are_judged_by_the_median() -> None:
    assert missed(_reports(p99=15)) == []
    assert missed(_reports(p99=15.1)) == [Limit("latency", "p99", "at most", 15)]
    assert missed({}) == list(LIMITS)
    text = summary(_reports(p99=15.1))
    assert "FAIL" in text
    assert text.count("pass") == len(LIMITS) - 1
    assert "worker CPU" in text
    assert "worker CPU" not in summary(_reports(p99=1), limits_only=True)


def test_acceptance_fails_when_a_limit_is_missed(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = f"--n 10 --reps 1 --seconds 0.2 --url {redis_url} --results {tmp_path}".split()
    monkeypatch.setattr(sys, "argv", ["acceptance", *arguments])
    monkeypatch.setattr(acceptance, "_MEASURED_BY", (latency.BENCHMARK,))
    monkeypatch.setattr(acceptance, "LIMITS", (Limit("latency", "p50", "at most", 60_000),))
    assert acceptance.main() == 0
    monkeypatch.setattr(acceptance, "LIMITS", (Limit("latency", "p50", "at most", 0),))
    assert acceptance.main() == 1
    assert "missed: latency: p50, at most 0" in capsys.readouterr().err


# --- statistics and tables --------------------------------------------------------------------------------------------


def test_percentiles_are_measured_values() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert [percentile(values, share) for share in (0.5, 0.99, 1.0, 0.0)] == [50, 99, 100, 1]
    assert percentile([7.0], 0.99) == 7
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


def test_numbers_keep_three_digits() -> None:
    assert [number(v) for v in (0, 1234.5, 100, 12.345, 1.2345, 0.012345)] == [
        "0",
        "1,234",
        "100",
        "12.3",
        "1.23",
        "0.0123",
    ]


def test_table_lines_up() -> None:
    assert table(["", "median", "unit"], [["a", "1", "ms"], ["long", "22", "s"]]) == [
        "         median  unit",
        "   ------------------",
        "   a          1  ms",
        "   long      22  s",
    ]


def test_loops() -> None:
    with run_on("asyncio") as runner:
        assert type(runner.get_loop()).__module__.startswith("asyncio")

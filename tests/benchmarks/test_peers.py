"""The comparison with other systems counts only what is right, judges its goals, and leaves nobody out silently."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks.harness import BenchmarkError
from benchmarks.peers import __main__ as command
from benchmarks.peers import docs
from benchmarks.peers.catalogue import PEERS, peer_of
from benchmarks.peers.cells import WORKLOADS, Cell
from benchmarks.peers.environments import Environment, NotInstalledError, prepare
from benchmarks.peers.goals import judge
from benchmarks.peers.programs import stage
from benchmarks.peers.programs.work import Config, Kind, Payload
from benchmarks.peers.report import COLUMNS, Results, load, markdown, medians
from tests.support.servers import ServerKind


def _written(directory: Path) -> Path:
    (path,) = directory.glob("*.json")
    return path


def test_redflow_and_the_minimal_loop_are_measured(
    server_kind: ServerKind, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = f"--only redflow,minimal --workloads steps,latency --scale 0.002 --reps 1 --results {tmp_path}"
    assert command.main([*arguments.split(), "--server", server_kind]) == 0
    document = load(_written(tmp_path))
    for name in ("redflow", "minimal"):
        figures = document["systems"][name]["figures"]
        assert figures.keys() == {"steps", "p50", "p99", "children"}, document["systems"][name]["failures"]
        assert all(len(values) == 1 and values[0] > 0 for values in figures.values())
        assert "redis " in document["systems"][name]["versions"]
        assert document["systems"][name]["store"].endswith(", appendonly no")
    shown = capsys.readouterr().out
    assert markdown(document) in shown
    assert "steps: at least 0.5 x the minimal loop" in shown


# --- what makes a figure count ----------------------------------------------------------------------------------------


class _Liar(stage.Client):
    """Does the work, and stores it as it is told to."""

    durable = True

    def __init__(self, output: object, steps: list[object]) -> None:
        super().__init__(Config(url="", scratch="", concurrency=1))
        self._stored = output, steps

    async def start(self, kind: Kind, data: Payload) -> int:
        return int(data["n"])

    async def ended(self, started: int) -> int:
        return started

    async def stored_output(self, run: Any) -> object:
        return self._stored[0]

    async def stored_steps(self, run: Any) -> list[object]:
        return self._stored[1]

    async def result(self, run: Any) -> object:
        return self._stored[0]


async def _checked(client: stage.Client, kind: str) -> Mapping[str, object]:
    orders = stage.Orders(client)
    await orders.obey({"do": "enqueue", "kind": kind, "n": 1, "how": "single"})
    assert (await orders.obey({"do": "wait", "within_s": 0.1}))["at"] > 0
    return await orders.obey({"do": "check"})


async def test_every_output_and_every_step_is_read_back() -> None:
    assert await _checked(_Liar({"n": 0}, [{"n": 0}]), "one") == {"wrong": "", "checked": 1}
    assert await _checked(_Liar(10, [*range(1, 11)]), "ten") == {"wrong": "", "checked": 1}
    assert "one number 0 gave {'n': 1}" in str((await _checked(_Liar({"n": 1}, [{"n": 0}]), "one"))["wrong"])
    assert "the steps of one number 0 are []" in str((await _checked(_Liar({"n": 0}, []), "one"))["wrong"])
    assert "the steps of ten number 0" in str((await _checked(_Liar(10, [*range(1, 10)]), "ten"))["wrong"])


async def test_a_wrong_result_voids_the_latency() -> None:
    orders = stage.Orders(_Liar({"n": 0}, []))
    assert len((await orders.obey({"do": "latency", "n": 1}))["ms"]) == 1
    with pytest.raises(ValueError, match="number 1 gave"):
        await orders.obey({"do": "latency", "n": 2})
    with pytest.raises(ValueError, match="the children gave"):
        await orders.obey({"do": "children", "n": 2, "times": 1})


async def test_a_run_that_never_ends_is_told() -> None:
    class Stuck(_Liar):
        async def ended(self, started: int) -> int:
            return started - 1

    with pytest.raises(TimeoutError, match="1 were started, 0 have ended"):
        await _checked(Stuck({"n": 0}, []), "one")


# --- what is reported -------------------------------------------------------------------------------------------------


def _run(monkeypatch: pytest.MonkeyPatch, directory: Path, *arguments: str) -> int:
    monkeypatch.setattr(command, "prepare", lambda peer, cache: Environment((), {}, f"{peer.name} 1.0"))
    return command.main([*arguments, "--results", str(directory)])


async def _nothing(cell: Cell) -> None:
    cell.figures |= {"live": 100.0, "cpu": 1.0}


def test_what_cannot_be_installed_is_in_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(peer: object, cache: Path) -> Environment:
        raise NotInstalledError("there is no such release")

    monkeypatch.setattr(command, "prepare", refuse)
    assert command.main(["--only", "arq,celery", "--results", str(tmp_path)]) == 0
    shown = _written(tmp_path).with_suffix(".md").read_text("utf-8")
    assert "- **arq**: can't be installed: there is no such release" in shown
    assert "- **celery**: can't be installed: there is no such release" in shown
    assert command.main(["--only", "arq", "--prepare", "--results", str(tmp_path)]) == 1


def test_a_measurement_that_does_not_count_is_in_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def lose(cell: Cell) -> None:
        raise BenchmarkError("one number 3 gave None")

    monkeypatch.setitem(WORKLOADS, "live", lose)
    assert _run(monkeypatch, tmp_path, "--only", "saq", "--workloads", "live") == 0
    document = load(_written(tmp_path))
    assert document["systems"]["saq"]["figures"] == {}
    assert "- **saq**: live: one number 3 gave None" in markdown(document)


def test_repetitions_are_interleaved_and_counts_are_taken_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, str]] = []

    for name in ("live", "idle"):

        async def note(cell: Cell, workload: str = name) -> None:
            seen.append((workload, cell.peer.name))

        monkeypatch.setitem(WORKLOADS, name, note)
    _run(monkeypatch, tmp_path, "--only", "redflow,bullmq", "--workloads", "live,idle", "--reps", "2")
    once = [("live", "redflow"), ("live", "bullmq")]
    assert seen == [*once, ("idle", "redflow"), ("idle", "bullmq"), *once]


def test_a_missed_goal_fails_with_check_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WORKLOADS, "live", _nothing)
    assert _run(monkeypatch, tmp_path / "a", "--workloads", "live") == 0
    assert _run(monkeypatch, tmp_path / "b", "--workloads", "live", "--check") == 1


def test_a_measurement_of_ours_that_does_not_count_fails_with_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lose(cell: Cell) -> None:
        raise BenchmarkError("one number 3 gave None")

    monkeypatch.setattr(command, "verdicts", lambda systems: [])  # no goal is missed
    monkeypatch.setitem(WORKLOADS, "live", _nothing)
    assert _run(monkeypatch, tmp_path / "a", "--only", "redflow", "--workloads", "live", "--check") == 0
    monkeypatch.setitem(WORKLOADS, "live", lose)
    assert _run(monkeypatch, tmp_path / "b", "--only", "redflow", "--workloads", "live", "--check") == 1


@pytest.mark.parametrize("arguments", [["--only", "arq,nobody"], ["--workloads", "nothing"]])
def test_unknown_names_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(arguments)
    assert "there are" in capsys.readouterr().err


def test_every_system_says_what_it_promises_and_how_it_is_run() -> None:
    assert len({peer.name for peer in PEERS}) == len(PEERS)
    for peer in PEERS:
        assert len(peer.promises) > 40, peer.name
        assert len(peer.setting) > 20, peer.name
        assert all("==" in wanted or "@" in wanted for wanted in peer.requirements), "releases are exact"


def test_what_is_installed_here_needs_no_environment(tmp_path: Path) -> None:
    assert "redflow 0" in prepare(peer_of("redflow"), tmp_path).versions
    assert not list(tmp_path.iterdir())


# --- goals and documents ----------------------------------------------------------------------------------------------

_GOOD = {
    "redflow": dict(
        zip(
            (column.figure for column in COLUMNS),
            (8000.0, 9000.0, 12000.0, 1600.0, 30000.0, 1.0, 4.0, 20.0, 0.1, 430.0, 1100.0, 9000.0, 30000.0, 1.9),
            strict=True,
        )
    ),
    "minimal": {"live": 15000.0, "drain": 19000.0, "steps": 45000.0, "bulk": 60000.0},
    "bullmq": dict(
        zip(
            ("live", "drain", "two", "p50", "p99", "children", "cpu", "bytes", "single"),
            (5000.0, 5600.0, 5900.0, 2.0, 7.0, 60.0, 0.2, 650.0, 8000.0),
            strict=True,
        )
    ),
    "temporal": {"steps": 98.0},
    "dbos": {"steps": 160.0},
}
_DURABLE = frozenset({"temporal", "dbos"})


def test_goals_are_judged_by_ratios() -> None:
    assert [verdict.goal for verdict in judge(_GOOD, _DURABLE) if not verdict.passed] == []
    assert not any(verdict.passed for verdict in judge({}, _DURABLE))


@pytest.mark.parametrize(
    ("figure", "bad"),
    [("live", 6100), ("two", 11000), ("steps", 2300), ("p99", 7.1), ("bytes-200", 1201), ("idle", 2.1)],
)
def test_each_goal_can_be_missed(figure: str, bad: float) -> None:
    found = {**_GOOD, "redflow": {**_GOOD["redflow"], figure: float(bad)}}
    missed = [verdict for verdict in judge(found, _DURABLE) if not verdict.passed]
    assert missed
    assert all(verdict.value == bad for verdict in missed)


def test_concurrency_1_has_the_higher_of_two_bounds() -> None:
    bounds = {drain: judge({**_GOOD, "minimal": {"drain": drain}}, _DURABLE)[-1].bound for drain in (5_000.0, 20_000.0)}
    assert bounds == {5_000.0: 1000, 20_000.0: 1600}


def _results() -> Results:
    results = Results("2 cpus", {"reps": 3, "scale": 1.0}, loads=[0.2, 2.5])
    for name in ("redflow", "bullmq"):
        results.admit(peer_of(name), f"{name} 1.2.3")
    for value in (1.0, 2.0, 30.0):
        results.add("redflow", {"p50": value}, "redis 7, appendonly no")
    results.add("bullmq", {"p50": 4.0}, "redis 7, appendonly no")
    return results


def test_tables_show_medians_and_ratios(tmp_path: Path) -> None:
    document = load(_results().save(tmp_path))
    assert medians(document["systems"]) == {"redflow": {"p50": 2.0}, "bullmq": {"p50": 4.0}}
    shown = markdown(document)
    assert "| `redflow` (this project) | 2.00 |" in shown
    assert "| `redflow` | 0.500 |" in shown
    assert "- [ ] trigger to result, p50: at most 0.8 x bullmq: 2.00, limit 3.20" not in shown
    assert "- [x] trigger to result, p50: at most 0.8 x bullmq: 2.00, limit 3.20" in shown
    assert "redflow 1.2.3; store: redis 7, appendonly no" in shown


def test_the_page_is_written_from_the_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "benchmarks.md"
    path = _results().save(tmp_path)
    monkeypatch.setattr(command, "write_docs", lambda document: docs.write_docs(document, page))
    assert command.main(["--write-docs", str(path)]) == 0
    assert capsys.readouterr().out.strip() == str(page)
    assert markdown(json.loads(path.read_text("utf-8"))) in page.read_text("utf-8")


@pytest.mark.parametrize(
    ("settings", "loads", "told"),
    [
        ({"reps": 3, "scale": 1.0}, [0.2, 3.0], None),
        ({"reps": 1, "scale": 1.0}, [0.2], "1 repetition(s) in place of 3"),
        ({"reps": 3, "scale": 0.05}, [0.2], "sizes of 0.05 of the full ones"),
        ({"reps": 3, "scale": 1.0}, [4.0, 0.2], "load average 4.00 before the start"),
    ],
)
def test_the_page_says_when_its_figures_are_preliminary(
    settings: dict[str, str | int | float], loads: list[float], told: str | None, tmp_path: Path
) -> None:
    document = Results("2 cpus", settings, loads=loads).document()
    page = docs.write_docs(document, tmp_path / "page.md").read_text("utf-8")
    assert ("preliminary" in page) == (told is not None)
    assert told is None or told in page

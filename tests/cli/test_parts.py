"""Parts of the command line that need no process."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from redflow import config
from redflow.cli.exits import Refused, one_line
from redflow.cli.modules import default_app, locate
from redflow.cli.process import WorkerProcess
from redflow.cli.supervisor import Backoff
from redflow.cli.wire import (
    Loaded,
    ModuleName,
    NotStarted,
    Ready,
    Report,
    WorkerSettings,
    report_from_json,
    report_to_json,
)
from redflow.engines.redis.embedded import EmbeddedServerError
from redflow.engines.redis.urls import parse_url
from redflow.errors import UnknownWorkflowError


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for path in ("src/shop/__init__.py", "src/shop/deep/__init__.py", "src/shop/deep/flows.py", "lone.py"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("argument", "name", "root"),
    [
        ("shop.deep.flows", "shop.deep.flows", None),
        ("lone", "lone", None),
        ("lone.py", "lone", "."),
        ("./lone.py", "lone", "."),
        ("src/shop/deep/flows.py", "shop.deep.flows", "src"),
        ("src/shop/deep", "shop.deep", "src"),
        ("src/shop/", "shop", "src"),
        ("src/shop/__init__.py", "shop", "src"),
    ],
)
def test_what_a_module_argument_means(project: Path, argument: str, name: str, root: str | None) -> None:
    module = locate(argument)
    assert (module.name, module.root) == (name, None if root is None else str((project / root).resolve()))
    assert default_app(module) == name.split(".")[0]


def test_the_current_directory_may_be_the_package(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project / "src" / "shop")
    assert locate(".") == ModuleName("shop", str(project / "src"), str(project / "src" / "shop" / "__init__.py"))
    assert locate("deep/flows.py").name == "shop.deep.flows"


@pytest.mark.parametrize("argument", ["", "a..b", "1a", "a b", "./src", "lone.txt.py", "no.py", "/", "a:b"])
def test_what_can_not_be_a_module(project: Path, argument: str) -> None:
    with pytest.raises(Refused):
        locate(argument)


def test_errors_become_one_line() -> None:
    with pytest.raises(ValueError, match="no scheme") as bad_url:
        parse_url("x")
    line = one_line(bad_url.value)
    assert line.startswith("bad server URL 'x': it has no scheme such as redis://. Accepted forms: redis://[user")
    assert ", rediss://" in line
    assert "\n" not in line
    assert one_line(EmbeddedServerError("it ended. Log: /l; it said:\n  a\n  b")) == "it ended. Log: /l"
    assert one_line(UnknownWorkflowError("a", near_names=("b", "c"))) == "Unknown workflow: a (did you mean b or c?)"
    assert one_line(ValueError()) == "ValueError"


def test_pauses_grow_and_end() -> None:
    backoff = Backoff()
    backoff.started()
    assert [backoff.next_pause_s() for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]


def test_pauses_start_anew_after_a_healthy_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("redflow.cli.supervisor.time.monotonic", lambda: now)
    backoff = Backoff()
    backoff.started()
    assert [backoff.next_pause_s() for _ in range(2)] == [0.5, 1]
    backoff.started()
    now = 61.0
    assert backoff.next_pause_s() == 0.5


def test_settings_come_over_whole() -> None:
    settings = WorkerSettings(
        modules=[ModuleName("a.b"), ModuleName("c", "/d", "/d/c.py")],
        app="ä",
        url="redis://:p@h",
        queues=["x", "y"],
        concurrency=3,
    )
    assert WorkerSettings.from_json(settings.to_json()) == settings
    assert "\n" not in settings.to_json()


@pytest.mark.parametrize(
    "report",
    [Loaded(["/a"]), Ready("redis://h", ["w"], []), NotStarted("broken_module", "line", "one\ntwo")],
)
def test_reports_come_over_whole(report: Report) -> None:
    assert "\n" not in report_to_json(report)
    assert report_from_json(report_to_json(report)) == report


def test_options_are_said_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REDIS_URL", "REDFLOW_PREFIX", "REDFLOW_APP"):
        monkeypatch.setenv(name, "old")
    config.say_in_environment(url="redis://new", prefix="")
    assert (config.redis_url(), config.default_prefix(), config.app_from_env()) == (
        "redis://new",
        config.DEFAULT_PREFIX,
        "old",
    )


async def test_a_worker_process_that_dies_before_it_reads_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redflow.cli.process.sys.executable", shutil.which("false"))
    settings = WorkerSettings(modules=[ModuleName("m")], app="long" * 1_000_000)
    reports: list[Report] = []
    process = await WorkerProcess.start(settings, lambda _, report: reports.append(report))
    assert await process.wait() == 1
    assert process.ended.is_set()
    assert reports == []

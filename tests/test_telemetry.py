"""What REDFLOW_LOG=1 asks for, and listeners of one's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping

import pytest

from redflow import telemetry

PROGRAM = """
import logging
from redflow import telemetry
telemetry.emit(telemetry.RUN_CREATED, run_id="run_1", workflow="w")
logging.getLogger("redflow").debug("a detail")
"""


@pytest.mark.parametrize(("value", "told"), [("1", True), ("0", False), ("", False)])
def test_one_in_the_environment_turns_lines_and_debug_logging_on(value: str, told: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | {"REDFLOW_LOG": value},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert ("a detail" in done.stderr) is told
    if not told:
        assert lines == []
        return
    [line] = lines
    assert line.items() >= {"event": "run.created", "run_id": "run_1", "workflow": "w"}.items()
    assert isinstance(line["ts"], int)


def test_a_listener_hears_until_it_is_stopped_and_may_break(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[tuple[str, Mapping[str, object]]] = []

    def broken(event: str, fields: Mapping[str, object]) -> None:
        raise RuntimeError("broken")

    stops = [telemetry.listen(broken), telemetry.listen(lambda event, fields: heard.append((event, fields)))]
    telemetry.emit(telemetry.WORKER_STOPPED, worker="a")
    for stop in stops:
        stop()
        stop()
    telemetry.emit(telemetry.WORKER_STOPPED, worker="b")
    assert heard == [("worker.stopped", {"worker": "a"})]
    assert "a telemetry listener raised" in caplog.text

"""redflow's engine needs nothing of Temporal: not even that temporalio is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import asyncio, sys

class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "temporalio":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NotInstalled())

from r7kit.config import configure
from r7kit.engines import close_engines
from r7kit.worker import R7Worker
from tests.r7kit.redflow.flows import Doubles


async def main():
    worker = R7Worker("tests.r7kit.redflow.flows", queue="alone")
    running = asyncio.create_task(worker.run())
    handle, uuid = await Doubles.start(payload={"input": 21}, queue="alone")
    print(await handle.result())
    worker.stop()
    await running
    configure(engine="temporal")
    try:
        await Doubles.start(payload={"input": 21})
    except ImportError as error:
        print(error)


asyncio.run(main())
assert not any(name.partition(".")[0] == "temporalio" for name in sys.modules)
"""


@pytest.mark.timeout(90)
def test_flows_run_on_an_embedded_redis_without_temporalio(tmp_path: Path) -> None:
    environment = {**os.environ, "REDIS_URL": f"embedded://{tmp_path / 'data'}", "R7KIT_ENGINE": "redflow"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=Path(__file__).parents[3],
        env=environment,
        capture_output=True,
        text=True,
        timeout=80,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result, error = done.stdout.splitlines()
    assert result == "42"
    assert "the extra redflow[temporal]" in error

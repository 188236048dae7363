"""@taskflow and @activity refuse what they can't serve, and need no engine."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from r7kit.base_task_workflow import BaseTaskWorkflow
from r7kit.decorators import activity, taskflow
from r7kit.registry import FLOW_MARK, register, resolve
from r7kit.workflow_utils import sleep
from tests.r7kit.temporal import flows

if TYPE_CHECKING:
    from decimal import Decimal


def test_only_classes_of_flows() -> None:
    with pytest.raises(TypeError, match="goes on a class"):
        taskflow()(lambda: None)  # type: ignore[type-var]
    with pytest.raises(TypeError, match="goes on a class"):
        taskflow(3)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="BaseTaskWorkflow"):
        taskflow()(int)
    with pytest.raises(TypeError, match="async def handle"):

        @taskflow()
        class NoHandle(BaseTaskWorkflow):
            pass

    with pytest.raises(TypeError, match="async def handle"):

        @taskflow
        class Plain(BaseTaskWorkflow):
            def handle(self) -> int:  # type: ignore[override]
                return 1

    with pytest.raises(TypeError, match="call yours something else"):

        @taskflow
        class Runs(BaseTaskWorkflow):
            def run(self) -> None: ...
            async def handle(self) -> None: ...

    with pytest.raises(TypeError, match="keyword-only"):

        @taskflow
        class Keyword(BaseTaskWorkflow):
            async def handle(self, *, x: int) -> None: ...

    with pytest.raises(TypeError, match="Decimal"):

        @taskflow
        class Unresolved(BaseTaskWorkflow):
            async def handle(self, x: Decimal) -> None: ...

    with pytest.raises(ValueError, match="queue"):
        taskflow(queue="")


def test_activities_stay_functions() -> None:
    assert flows.blocking(3) == 6
    with pytest.raises(TypeError, match="goes on a function"):
        activity(3)  # type: ignore[call-overload]


def test_queues_and_names() -> None:
    assert resolve(flows.MyFlow).queue == "producer-queue"
    assert resolve(flows.MyFlow, "mine").queue == "mine"
    assert resolve(flows.Child).queue == "child-queue"
    assert resolve("Unknown").queue == "unknown-queue"
    register(flows.MyFlow.__dict__[FLOW_MARK])  # other tests have a flow of this name; the last one counts
    assert resolve("MyFlow").queue == "producer-queue"
    path = resolve("tests.r7kit.temporal.flows.MyFlow")
    assert (path.name, path.queue, path.result_type) == ("MyFlow", "producer-queue", int)
    with pytest.raises(ValueError, match="no class 'Nothing'"):
        resolve("tests.r7kit.temporal.flows.Nothing")
    with pytest.raises(ValueError, match="can't import"):
        resolve("tests.nowhere.Flow")
    with pytest.raises(TypeError, match="@taskflow"):
        resolve(int)


async def test_outside_of_a_flow() -> None:
    with pytest.raises(RuntimeError, match="not inside a running flow"):
        await flows.Child().exists()
    with pytest.raises(RuntimeError, match="not inside a running flow"):
        await sleep(1)
    with pytest.raises(ValueError, match="duration"):
        await sleep(-1)


WITHOUT = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "temporalio":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
import asyncio
from r7kit.base_task_workflow import BaseTaskWorkflow
from r7kit.decorators import activity, taskflow

@taskflow()
class Flow(BaseTaskWorkflow):
    async def handle(self) -> int:
        return 1

@activity
def helps() -> int:
    return 1

try:
    asyncio.run(Flow.start())
except ImportError as error:
    print(error)
"""


def test_without_temporalio() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "the extra redflow[temporal]" in done.stdout


def test_importing_loads_no_engine() -> None:
    program = "import sys, r7kit.worker, r7kit.tasks, r7kit.decorators; print('temporalio' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"

"""redflow: workflows with journaled steps, leases, fences, indexes and retention on, as installed here."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Sequence

from benchmarks.peers.programs import stage, work
from benchmarks.peers.programs.work import Config, Kind, Payload
from redflow import (
    StartWorkerOptions,
    WorkflowHandlerContext,
    WorkflowRegistry,
    create_client,
    define_workflow,
    start_worker,
)
from redflow._collector import spare_collector
from redflow.types import WorkflowCall

_APP = "benchmark"
_REGISTRY = WorkflowRegistry()


async def _double(data: Payload) -> Payload:
    return work.double(data)


async def _add_one(number: int) -> int:
    return work.add_one(number)


async def _one(ctx: WorkflowHandlerContext[Payload]) -> Payload:
    return await ctx.step.run("double", _double, ctx.input)


async def _ten(ctx: WorkflowHandlerContext[Payload]) -> int:
    number = int(ctx.input["n"])
    for index in range(work.STEPS_IN_TEN):
        number = await ctx.step.run(f"add-{index}", _add_one, number)
    return number


async def _parent(ctx: WorkflowHandlerContext[dict[str, list[Payload]]]) -> list[Payload]:
    return await asyncio.gather(
        *[
            ctx.step.run_workflow(f"child-{index}", _ONE, data, timeout_ms=60_000)
            for index, data in enumerate(ctx.input["datas"])
        ]
    )


_ONE = define_workflow("one", handler=_one, registry=_REGISTRY)
define_workflow("ten", handler=_ten, registry=_REGISTRY)
define_workflow("parent", handler=_parent, registry=_REGISTRY)


class Client(stage.Client):
    """redflow's own client, one process."""

    bulk = 1000
    durable = True

    async def open(self) -> None:
        self._redflow = create_client(app=_APP, url=self.settings.url)
        await self._redflow.sync_registry(_REGISTRY, app=_APP)

    async def close(self) -> None:
        await self._redflow.close()

    async def start(self, kind: Kind, data: Payload) -> str:
        return (await self._redflow.emit_workflow(kind, data)).id

    async def start_many(self, kind: Kind, datas: Sequence[Payload]) -> list[str]:
        handles = await self._redflow.emit_workflows([WorkflowCall(kind, data) for data in datas])
        runs = []
        for handle in handles:
            if isinstance(handle, Exception):
                raise handle
            runs.append(handle.id)
        return runs

    async def ended(self, started: int) -> int:
        by_status = (await self._redflow.get_stats())["by_status"]
        return by_status["succeeded"] + by_status["failed"] + by_status["canceled"]

    async def stored_output(self, run: str) -> object:
        state = await self._redflow.get_run(run)
        if state is None or state["status"] != "succeeded":
            raise ValueError(f"{run} is {state and state['status']}")
        return state["output"]

    async def stored_steps(self, run: str) -> list[object]:
        steps = await self._redflow.get_run_steps(run)
        return [step["output"] for step in steps if step["status"] == "succeeded"]

    async def result(self, run: str) -> object:
        return await self._redflow.make_run_handle(run).result()

    async def fan_out(self, datas: Sequence[Payload]) -> Sequence[object]:
        handle = await self._redflow.emit_workflow("parent", {"datas": list(datas)})
        outputs = await handle.result(timeout_ms=60_000)
        assert isinstance(outputs, list)
        return outputs


async def _work(settings: Config) -> None:
    options = StartWorkerOptions(app=_APP, url=settings.url, registry=_REGISTRY, concurrency=settings.concurrency)
    worker = await start_worker(options)
    spare_collector()  # as `redflow worker` does
    ending = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    await ending.wait()
    await worker.stop()


def _worker(settings: Config) -> None:
    logging.basicConfig(level=logging.WARNING)
    with asyncio.Runner(loop_factory=stage.new_loop(settings.loop)) as runner:
        runner.run(_work(settings))


if __name__ == "__main__":
    stage.main(Client, _worker)

"""dbos: durable workflows in Postgres or SQLite, started through its queue."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Sequence
from typing import Any

import sqlalchemy
from dbos import DBOS, DBOSClient, DBOSConfig
from sqlalchemy import event

from benchmarks.peers.programs import stage, work
from benchmarks.peers.programs.work import Config, Kind, Payload

_QUEUE = "benchmark"
_POLL_S = 0.01
"""dbos polls its queue and its results, by default each second. This is the best that is reasonable."""
_POOL = 20


@DBOS.step()
def double(data: Payload) -> Payload:
    """The step of `one`."""
    return work.double(data)


@DBOS.step()
def add_one(number: int) -> int:
    """A step of `ten`."""
    return work.add_one(number)


@DBOS.workflow(name="one")
def one(data: Payload) -> Payload:
    """One step."""
    return double(data)


@DBOS.workflow(name="ten")
def ten(data: Payload) -> int:
    """Ten steps."""
    number = int(data["n"])
    for _ in range(work.STEPS_IN_TEN):
        number = add_one(number)
    return number


@DBOS.workflow(name="parent")
def parent(datas: list[Payload]) -> list[Payload]:
    """A hundred children."""
    handles = [DBOS.enqueue_workflow(_QUEUE, one, data) for data in datas]
    return [handle.get_result(polling_interval_sec=_POLL_S) for handle in handles]


def _dbos_config(settings: Config) -> DBOSConfig:
    return {
        "name": "benchmark",
        "system_database_url": settings.url,
        "application_version": "1",
        "executor_id": str(os.getpid()),  # else a second worker would recover the first one's workflows
        "sys_db_pool_size": _POOL,
        "log_level": "WARNING",
        "max_executor_threads": settings.concurrency + 10,
    }


def _tune_sqlite(settings: Config) -> None:
    """The write-ahead log, and no fsync where nobody has one: dbos leaves both to SQLite's defaults."""
    if not settings.url.startswith("sqlite"):
        return

    @event.listens_for(sqlalchemy.engine.Engine, "connect")
    def tune(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={'FULL' if settings.durable_store else 'OFF'}")


class Client(stage.Client):
    """dbos' client, which knows the database only."""

    durable = True
    look_every_s = 0.1

    async def open(self) -> None:
        await asyncio.to_thread(self._open)  # it refuses to be called where an event loop runs

    def _open(self) -> None:
        _tune_sqlite(self.settings)
        DBOS(config=_dbos_config(self.settings))
        DBOS.launch()  # makes the tables
        DBOS.register_queue(_QUEUE, worker_concurrency=self.settings.concurrency, polling_interval_sec=_POLL_S)
        DBOS.destroy()
        self._dbos = DBOSClient(system_database_url=self.settings.url, system_database_pool_size=_POOL)
        schema = "dbos." if self.settings.url.startswith("postgres") else ""
        ended = f"SELECT count(*) FROM {schema}workflow_status WHERE status IN ('SUCCESS', 'ERROR')"
        self._count_ended = sqlalchemy.text(ended)

    async def close(self) -> None:
        self._dbos.destroy()

    async def start(self, kind: Kind, data: Payload) -> Any:
        return await self._dbos.enqueue_async({"workflow_name": kind, "queue_name": _QUEUE}, data)

    async def ended(self, started: int) -> int:
        with self._dbos._sys_db.engine.connect() as connection:
            return int(connection.execute(self._count_ended).scalar_one())

    async def stored_output(self, run: Any) -> object:
        status = await run.get_status()
        if status.status != "SUCCESS":
            raise ValueError(f"{run.workflow_id} is {status.status}")
        return status.output

    async def stored_steps(self, run: Any) -> list[object]:
        steps = await self._dbos.list_workflow_steps_async(run.workflow_id)
        return [step["output"] for step in steps]

    async def result(self, run: Any) -> object:
        return await run.get_result(polling_interval_sec=_POLL_S)

    async def fan_out(self, datas: Sequence[Payload]) -> Sequence[object]:
        run = await self._dbos.enqueue_async({"workflow_name": "parent", "queue_name": _QUEUE}, list(datas))
        outputs: list[object] = await self.result(run)
        return outputs


def _worker(given: Config) -> None:
    logging.basicConfig(level=logging.WARNING)
    _tune_sqlite(given)
    DBOS(config=_dbos_config(given))
    DBOS.launch()
    DBOS.register_queue(
        _QUEUE, worker_concurrency=given.concurrency, polling_interval_sec=_POLL_S, on_conflict="always_update"
    )
    ending = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ending.set())
    ending.wait()
    DBOS.destroy()


if __name__ == "__main__":
    stage.main(Client, _worker)

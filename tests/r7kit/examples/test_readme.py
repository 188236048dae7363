"""The README's programs, verbatim, on both engines: workers and client are processes of their own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from r7kit.serializer import loads
from tests.docs.pages import Block, blocks_of
from tests.support.servers import ServerProcess
from tests.support.temporal import TemporalProcess

PAGE = "docs/r7kit/index.md"
RUSSIAN = "docs/r7kit/index.ru.md"

CONTRACT = """
@taskflow(queue="producer-queue")
class ProducerWorkflow(BaseTaskWorkflow):
    async def handle(self) -> int:
        await self.load_task()
        x = int(self.payload["mathematic"]["input"])
        await self.patch_task({"status": "sent"})
        res = await self.child("ProcessorWorkflow", queue="processor-queue").run()
        await self.patch_task({"status": "done", "payload": {"mathematic": {"input": x, "result": res}}})
        await self.delete_task(ttl=10)
        return res
"""


def programs(page: str) -> list[Block]:
    return [block for block in blocks_of(page) if block.language == "python"]


def test_both_languages_show_the_same() -> None:
    shown = [(block.language, block.text, block.comments) for block in blocks_of(PAGE)]
    assert [(block.language, block.text, block.comments) for block in blocks_of(RUSSIAN)] == shown
    assert CONTRACT in next(block.text for block in programs(PAGE) if block.file_name == "myapp.py")


class Worker:
    """A worker process of the page's worker.py."""

    def __init__(self, directory: Path, environment: dict[str, str], queue: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "worker.py", queue],
            cwd=directory,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._lines: list[str] = []
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def text(self) -> str:
        return "".join(self._lines)

    def wait_until_ready(self) -> None:
        assert self._ready.wait(40), self.text
        assert "takes work" in self.text, self.text

    def end(self) -> None:
        """SIGTERM: it must exit with 0."""
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(20)
        finally:
            self._process.kill()
            self._process.wait()
        self._reader.join(10)
        assert code == 0, self.text
        assert "Traceback" not in self.text

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            for line in stream:
                self._lines.append(line)
                if "takes work" in line:
                    self._ready.set()
        self._ready.set()


@pytest.fixture(params=["temporal", "redflow"])
def environment(request: pytest.FixtureRequest, server: ServerProcess, prefix: str, tmp_path: Path) -> dict[str, str]:
    variables = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    variables |= {
        "HOME": str(tmp_path),
        "REDIS_URL": server.url,
        "R7KIT_ENGINE": request.param,
        "R7KIT_STREAM": f"{prefix}:events",
        "REDFLOW_PREFIX": prefix,
    }
    if request.param == "temporal":
        temporal: TemporalProcess = request.getfixturevalue("temporal")
        variables["TEMPORAL_ADDRESS"] = temporal.address
    return variables


@pytest.fixture
def workers(environment: dict[str, str], tmp_path: Path) -> Iterator[list[Worker]]:
    for block in programs(PAGE):
        (tmp_path / block.file_name).write_text(block.text, "utf-8")
    running = [Worker(tmp_path, environment, queue) for queue in ("producer-queue", "processor-queue")]
    yield running
    for worker in running:
        worker.end()


@pytest.mark.timeout(120)
def test_the_readme_runs(workers: list[Worker], environment: dict[str, str], tmp_path: Path) -> None:
    for worker in workers:
        worker.wait_until_ready()
    for _ in range(2):  # as often as one likes
        done = subprocess.run(
            [sys.executable, "client.py"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stdout.split()) == (0, ["84", "done", "2", "144"]), done.stderr
    with redis.Redis.from_url(environment["REDIS_URL"], decode_responses=True) as client:
        entries = [dict(fields) for _, fields in client.xrange(environment["R7KIT_STREAM"])]
        assert [set(entry) for entry in entries] == [{"event", "uuid", "ver", "at", "fields", "status"}] * len(entries)
        story = [
            [(e["event"], e["status"], json.loads(e["fields"])) for e in entries if e["uuid"] == uuid]
            for uuid in dict.fromkeys(entry["uuid"] for entry in entries)
        ]
        assert [len(one) for one in story] == [4, 4, 5] * 2
        assert story[2] == [
            ("created", "new", ["status", "payload.mathematic"]),
            ("patched", "sent", ["status"]),
            ("patched", "sent", ["payload.processed"]),
            ("patched", "done", ["status", "payload.mathematic"]),
            ("deleted", "done", ["deleted_at"]),
        ]
        uuid = entries[0]["uuid"]
        record = dict(client.hgetall(f"task:{uuid}"))
        assert loads(record["payload.result"]) == 84
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", record["deleted_at"])
        assert 0 < client.ttl(f"task:{uuid}") <= 60

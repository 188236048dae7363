"""Every example of the documentation is executed, and type-checked. How a page says what is what: see `pages`."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, Block, blocks_of

BARE = ("README.md", "docs/tutorial.md")
"""Pages that a reader types in on a machine without any server: REDIS_URL is not set for them."""

DRIVER = Path(__file__).with_name("drive.py")
PROGRAM_LIMIT_S = 60.0
END_LIMIT_S = 30.0

# What a reader must never see, on stderr or in a log.
_UNTIDY = re.compile(r"^Traceback|never retrieved|never awaited|ResourceWarning|Task was destroyed", re.M)
_ENVIRONMENT_KEPT = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "SSL_CERT_FILE")


def executed(page: str) -> list[Block]:
    """The blocks of a page that are executed or compared."""
    return [block for block in blocks_of(page) if block.language in ("python", "bash") or block.comments]


class BackgroundProcess:
    """Commands that go on while the rest of a page is executed.

    Args:
        block: the commands.
        directory: where they run.
        environment: their environment.
        until: what they print when they are ready.
    """

    def __init__(self, block: Block, directory: Path, environment: dict[str, str], until: str) -> None:
        self._block = block
        self._until = until
        self.lines: list[str] = []
        self._ready = threading.Event()
        self._process = subprocess.Popen(
            ["bash", "-euc", f"exec {block.text}"],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_until_ready(self) -> None:
        """Return when it has printed what it prints when it is ready."""
        assert self._ready.wait(PROGRAM_LIMIT_S), f"{self._block.place} never printed {self._until!r}:\n{self.text}"
        assert self._until in self.text, f"{self._block.place} ended:\n{self.text}"

    @property
    def text(self) -> str:
        """What it has printed so far."""
        return "".join(self.lines)

    def end(self) -> None:
        """Press Ctrl-C; it must end in order."""
        self._process.send_signal(signal.SIGINT)
        try:
            code = self._process.wait(END_LIMIT_S)
        finally:
            self._process.kill()
            self._process.wait()
        self._reader.join(END_LIMIT_S)
        assert code == 0, f"{self._block.place} ended with {code}:\n{self.text}"
        assert not _UNTIDY.search(self.text), f"{self._block.place} printed:\n{self.text}"

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            for line in stream:
                self.lines.append(line)
                if self._until in line:
                    self._ready.set()
        self._ready.set()


class Reader:
    """Somebody who types in the examples of one page, one after the other.

    Args:
        directory: an empty directory, the page's own.
        redis_url: what REDIS_URL is in the beginning; None: not set.
        server_url: the server for workflows that are run by a comment.
    """

    def __init__(self, directory: Path, redis_url: str | None, server_url: str) -> None:
        self._directory = directory
        self._server_url = server_url
        self._background: list[BackgroundProcess] = []
        self._printed = ""
        self._environment = {name: os.environ[name] for name in _ENVIRONMENT_KEPT if name in os.environ}
        self._environment |= {
            "HOME": str(directory),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONDEVMODE": "1",
            "PYTHONUNBUFFERED": "1",
            "REDFLOW_PREFIX": f"docs-{secrets.token_hex(4)}",
        }
        if redis_url is not None:
            self._environment["REDIS_URL"] = redis_url

    def follow(self, block: Block) -> None:
        """Do what a block says, or compare what it shows."""
        if block.language == "python":
            self._run_program(block)
        elif block.language == "bash":
            self._run_commands(block)
        elif block.told("output"):
            self._compare(block)

    def close(self) -> None:
        """End what still runs."""
        background, self._background = self._background, []
        for process in reversed(background):
            process.end()

    def _run_program(self, block: Block) -> None:
        path = self._directory / block.file_name
        path.write_text(block.text, encoding="utf-8")
        if block.comments == [("file", "")]:
            return
        self._printed = self._execute(block, [sys.executable, path.name], self._environment)
        for told in block.told("run"):
            match = re.fullmatch(r"(\S+) (.+) -> (.+)", told)
            assert match is not None, f"{block.place}: not NAME INPUT -> OUTPUT: {told}"
            environment = self._environment | {
                "REDIS_URL": self._server_url,
                "REDFLOW_PREFIX": f"docs-{secrets.token_hex(4)}",
            }
            command = [sys.executable, str(DRIVER), path.name, match[1], match[2]]
            printed = self._execute(block, command, environment)
            got, wanted = printed.rpartition("=> ")[2].strip(), match[3]
            if not wanted.startswith(("failed ", "canceled")):
                wanted = json.dumps(json.loads(wanted))
            assert got == wanted, f"{block.place}: {told}, but it gave {got}"

    def _run_commands(self, block: Block) -> None:
        if block.told("skip"):
            return
        for until in block.told("background"):
            process = BackgroundProcess(block, self._directory, self._environment, until)
            self._background.append(process)
            process.wait_until_ready()
            self._printed = process.text
            return
        kept = self._directory / ".environment"
        script = f"{block.text}\nenv -0 > {kept}"
        self._printed = self._execute(block, ["bash", "-euo", "pipefail", "-c", script], self._environment)
        pairs = kept.read_text(encoding="utf-8").split("\0")
        self._environment = dict(pair.split("=", 1) for pair in pairs if pair)

    def _execute(self, block: Block, command: list[str], environment: dict[str, str]) -> str:
        done = subprocess.run(
            command,
            cwd=self._directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PROGRAM_LIMIT_S,
            check=False,
        )
        told = f"{block.place} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        assert done.returncode == 0, told
        assert not _UNTIDY.search(done.stderr), told
        return done.stdout

    def _compare(self, block: Block) -> None:
        parts = [re.escape(part) for part in block.text.strip().split("...")]
        pattern = ".*".join(parts)
        assert re.fullmatch(pattern, self._printed.strip(), re.S), (
            f"{block.place} shows\n{block.text}\nbut what was printed is\n{self._printed}"
        )


@pytest.fixture
def reader(request: pytest.FixtureRequest, tmp_path: Path, redis_url: str) -> Iterator[Reader]:
    bare = request.getfixturevalue("page") in BARE
    reader = Reader(tmp_path, None if bare else redis_url, redis_url)
    yield reader
    reader.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", [page for page in PAGES if executed(page)])
def test_examples_of_page_work(page: str, reader: Reader) -> None:
    for block in executed(page):
        reader.follow(block)
    reader.close()


@pytest.mark.parametrize("page", PAGES)
def test_only_shell_blocks_are_skipped_and_with_a_reason(page: str) -> None:
    for block in blocks_of(page):
        for reason in block.told("skip"):
            assert block.language == "bash", block.place
            assert len(reason) > 10, block.place


@pytest.mark.timeout(300)
def test_programs_type_check(tmp_path: Path) -> None:
    for page in PAGES:
        for block in blocks_of(page):
            if block.language != "python":
                continue
            path = tmp_path / block.file_name
            assert not path.exists() or path.read_text("utf-8") == block.text, f"{block.place}: two {path.name}"
            path.write_text(block.text, encoding="utf-8")
    config = str(ROOT / "pyproject.toml")
    # A payload's values have no type, and the examples return them as people do.
    command = [sys.executable, "-m", "mypy", "--config-file", config, "--no-warn-return-any"]
    done = subprocess.run(
        [*command, "--cache-dir", str(tmp_path / ".cache"), str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"MYPYPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr

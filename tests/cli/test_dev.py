"""`redflow dev`: its own server, reload, and what is left after it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis

from redflow.client import RedflowClient, create_client
from redflow.errors import ConnectionError
from tests.cli.programs import DEADLINE_S, Program, Programs
from tests.support.servers import PORTS, ServerOptions, ServerProcess, wait_until

FLOWS = """
import asyncio
from pathlib import Path
from redflow import workflow

def note(text):
    with open("effects", "a") as file:
        print(text, file=file)

@workflow("say")
async def say(ctx):
    return "VERSION"

@workflow("long")
async def long(ctx):
    async def first():
        note("first")
        return "of VERSION"
    word = await ctx.step.run("first", first)
    note("waits in VERSION")
    while not Path("go").exists():
        await asyncio.sleep(0.01)
    return f"first {word}, then VERSION"
"""


@pytest.fixture
def free_port() -> int:
    """A port that nobody listens on."""
    for port in PORTS:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")


def url_of(program: Program) -> str:
    """The URL that `dev` printed."""
    return program.wait_for(r"REDIS_URL=(redis://127.0.0.1:\d+)$")[1]


@asynccontextmanager
async def client_of(program: Program) -> AsyncIterator[RedflowClient]:
    """A client as another shell would have it."""
    client = create_client(url=url_of(program))
    yield client
    await client.close()


async def say(client: RedflowClient) -> object:
    """The version that answers."""
    return await (await client.emit_workflow("say", {})).result()


def save(programs: Programs, version: str) -> None:
    """Save the source, with another version in it."""
    programs.write("flows.py", FLOWS.replace("VERSION", version))


async def test_from_nothing_to_a_result_and_again(programs: Programs) -> None:
    save(programs, "one")
    program = programs.start("dev", "flows")
    program.worker_pid()
    async with client_of(program) as client:
        handle = await client.emit_workflow("say", {})
        assert await handle.result() == "one"
        pid = redis.Redis.from_url(url_of(program)).info()["process_id"]
    assert program.interrupt() == 0
    assert program.err == []
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(program.worker_pid(), 0)

    again = programs.start("dev", "flows")
    again.worker_pid()
    async with client_of(again) as client:
        state = await client.get_run(handle.id)
        assert state is not None
        assert state.get("output") == "one"
    assert again.interrupt() == 0


async def test_the_printed_url_serves_another_shell(programs: Programs) -> None:
    save(programs, "one")
    program = programs.start("dev", "flows", "--dir", "data")
    program.worker_pid()
    code, run = programs.run("run", "say", "--wait", REDIS_URL=url_of(program))
    assert code == 0, run.text
    assert run.out[1] == '"one"'
    assert (programs.directory / "data" / "server.lock").exists()
    assert program.interrupt() == 0


async def test_a_change_reloads_and_runs_go_on(programs: Programs) -> None:
    save(programs, "one")
    program = programs.start("dev", "flows", "--lease-ms", "600000", "--grace-ms", "10")
    program.worker_pid()
    async with client_of(program) as client:
        handle = await client.emit_workflow("long", {})
        effects = programs.directory / "effects"
        wait_until(lambda: effects.exists() and "waits in one" in effects.read_text(), timeout_s=DEADLINE_S, what="run")
        save(programs, "two")
        program.wait_for("flows.py changed: reloading")
        program.worker_pid(times=2)
        assert await say(client) == "two"
        (programs.directory / "go").touch()
        assert await handle.result() == "first of one, then two"
        state = await handle.get_state()
        assert state is not None
        assert state["attempt"] == 1
        assert effects.read_text().splitlines() == ["first", "waits in one", "waits in two"]
    assert program.interrupt() == 0


async def test_a_package_is_watched_whole_and_nothing_else(programs: Programs) -> None:
    programs.write("shop/__init__.py", "")
    programs.write("shop/deep/__init__.py", "")
    programs.write("shop/deep/words.py", "WORD = 'one'")
    programs.write("lib/greet.py", "HELLO = 'hi'")
    programs.write(
        "shop/flows.py",
        "from redflow import workflow\nfrom lib.greet import HELLO\nfrom shop.deep.words import WORD\n"
        "@workflow('say')\nasync def say(ctx): return f'{HELLO} {WORD}'\n",
    )
    program = programs.start("dev", "shop.flows")
    program.worker_pid()
    async with client_of(program) as client:
        assert await say(client) == "hi one"
        programs.write("unrelated.py", "")
        programs.write("shop/notes.txt", "")
        programs.write("shop/deep/words.py", "WORD = 'two'")
        program.worker_pid(times=2)
        assert await say(client) == "hi two"
        programs.write("lib/greet.py", "HELLO = 'ho'")
        program.worker_pid(times=3)
        assert await say(client) == "ho two"
    assert program.interrupt() == 0
    assert [line for line in program.out if "changed" in line] == [
        "shop/deep/words.py changed: reloading",
        "lib/greet.py changed: reloading",
    ]


async def test_a_change_while_the_worker_starts_is_not_missed(programs: Programs) -> None:
    """The module itself is changed by its own import: nobody can watch it before that."""
    programs.write("part.py", "WORD = 'one'")
    programs.write(
        "flows.py",
        "import os, pathlib\nfrom redflow import workflow\nfrom part import WORD\n"
        "fresh = pathlib.Path('fresh.py')\n"
        "fresh.exists() and os.replace(fresh, 'part.py')\n"
        "@workflow('say')\nasync def say(ctx): return WORD\n",
    )
    programs.write("fresh.py", "WORD = 'two'")
    program = programs.start("dev", "flows")
    program.wait_for("part.py changed: reloading")
    async with client_of(program) as client:
        wait_until(lambda: len([line for line in program.out if "is ready" in line]) > 1, timeout_s=30, what="worker")
        assert await say(client) == "two"
    assert program.interrupt() == 0


async def test_a_broken_module_is_shown_once_and_waited_for(programs: Programs) -> None:
    save(programs, "one")
    program = programs.start("dev", "flows")
    program.worker_pid()
    programs.write("flows.py", "import redflow\n[markup]\n")
    program.wait_for("NameError: name 'markup' is not defined")
    program.wait_for("Waiting for a change of the source")
    assert sum("can't import flows" in line for line in program.err) == 1
    assert any("flows.py" in line and "line 2" in line for line in program.err)
    assert not any("importlib" in line or "redflow/cli" in line for line in program.err)
    save(programs, "two")
    program.worker_pid(times=2)
    async with client_of(program) as client:
        assert await say(client) == "two"
    assert program.interrupt() == 0


async def test_what_is_missing_may_be_added_later(programs: Programs) -> None:
    programs.write("flows.py", "from words import WORD\n" + FLOWS)
    program = programs.start("dev", "flows")
    program.wait_for("No module named 'words'")
    programs.write("words.py", "WORD = 1")
    program.worker_pid()
    programs.write("flows.py", "pass")
    program.wait_for("flows defines no workflow")
    (programs.directory / "flows.py").unlink()
    program.wait_for("there is no module flows")
    save(programs, "two")
    program.worker_pid(times=2)
    async with client_of(program) as client:
        assert await say(client) == "two"
    assert program.interrupt() == 0


async def test_a_definition_that_is_refused_is_waited_for(programs: Programs) -> None:
    """Two subscribers of one event disagree about its data: only the start of the worker can tell."""
    disagreeing = FLOWS.replace("VERSION", "one")
    disagreeing = disagreeing.replace('"say"', '"say", event=EventTrigger("x"), input_schema=Said')
    disagreeing = disagreeing.replace('"long"', '"long", event=EventTrigger("x")')
    schema = "class Said(BaseModel):\n    words: str\n"
    programs.write(
        "flows.py", f"from pydantic import BaseModel\nfrom redflow import EventTrigger\n{schema}{disagreeing}"
    )
    program = programs.start("dev", "flows")
    program.wait_for("Event schema conflict")
    program.wait_for("Waiting for a change")
    save(programs, "two")
    program.worker_pid()
    assert program.interrupt() == 0


async def test_a_worker_that_dies_is_replaced(programs: Programs) -> None:
    save(programs, "one")
    program = programs.start("dev", "flows")
    os.kill(program.worker_pid(), signal.SIGKILL)
    program.wait_for("killed by SIGKILL; another one in 0.5 s")
    program.worker_pid(times=2)
    assert program.interrupt() == 0


async def test_a_port_of_ones_own(programs: Programs, free_port: int) -> None:
    save(programs, "one")
    program = programs.start("dev", "flows", "--port", str(free_port), "--prefix", "mine")
    assert url_of(program) == f"redis://127.0.0.1:{free_port}"
    program.wait_for("REDFLOW_PREFIX=mine$")
    program.worker_pid()
    other = programs.start("dev", "flows", "--port", str(free_port), "--dir", "elsewhere")
    assert other.wait() == 2
    other.wait_for(f"port {free_port} of 127.0.0.1 is taken")
    assert len(other.err) == 1
    assert program.interrupt() == 0


@pytest.fixture
def usual_port_taken() -> Iterator[None]:
    """Somebody listens on 6379, be it a server of this machine or, for the test, this one."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", 6379))
        except OSError:
            pass
        else:
            listener.listen()
        yield


@pytest.mark.usefixtures("usual_port_taken")
async def test_another_port_when_the_usual_one_is_taken(programs: Programs) -> None:
    save(programs, "one")
    program = programs.start("dev", "flows")
    program.worker_pid()
    assert not url_of(program).endswith(":6379")
    async with client_of(program) as client:
        assert await say(client) == "one"
    assert program.interrupt() == 0


async def test_two_sessions_share_the_server_and_the_last_one_keeps_it(programs: Programs) -> None:
    save(programs, "one")
    programs.write("others.py", FLOWS.replace("VERSION", "b").replace('"say"', '"say-b"').replace('"long"', '"long-b"'))
    first = programs.start("dev", "flows")
    first.worker_pid()
    second = programs.start("dev", "others")
    second.worker_pid()
    assert url_of(first) == url_of(second)
    async with client_of(first) as client:
        assert await (await client.emit_workflow("say-b", {})).result() == "b"
        assert first.interrupt() == 0
        assert await (await _emit_when_it_answers(client, "say-b")) == "b"
    assert second.interrupt() == 0


async def _emit_when_it_answers(client: RedflowClient, workflow: str) -> Awaitable[object]:
    """The result of a run that is started as soon as there is a server."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            with contextlib.suppress(ConnectionError):
                return (await client.emit_workflow(workflow, {})).result()


async def test_a_server_of_ones_own(programs: Programs, redis_url: str, prefix: str, tmp_path: Path) -> None:
    save(programs, "one")
    program = programs.start("dev", "flows", "--redis-url", redis_url, "--prefix", prefix)
    program.wait_for("on redis://127.0.0.1")
    assert not (tmp_path / ".redflow").exists()
    save(programs, "two")
    program.worker_pid(times=2)
    assert program.interrupt() == 0


async def test_no_password_is_shown(
    programs: Programs, private_server: Callable[[ServerOptions], ServerProcess]
) -> None:
    server = private_server(ServerOptions(requirepass="s3cret"))
    save(programs, "one")
    program = programs.start("dev", "flows", "--url", server.url, "--log-level", "debug")
    program.worker_pid()
    assert program.interrupt() == 0
    assert "s3cret" not in program.text


async def test_sigterm_ends_it_too(programs: Programs) -> None:
    save(programs, "one")
    program = programs.start("dev", "flows")
    program.worker_pid()
    program.send(signal.SIGTERM)
    assert program.wait() == 0
    assert (programs.directory / ".redflow").is_dir()


async def test_ctrl_c_in_the_terminal_reaches_the_worker_too(programs: Programs) -> None:
    save(programs, "one")
    program = programs.start("dev", "flows")
    program.worker_pid()
    os.killpg(program.process.pid, signal.SIGINT)
    assert program.wait() == 0
    assert program.err == []


async def test_ctrl_c_while_the_worker_process_starts(programs: Programs) -> None:
    save(programs, "one")
    program = programs.start("dev", "flows")
    url_of(program)
    children = Path(f"/proc/{program.process.pid}/task/{program.process.pid}/children")
    if sys.platform == "linux":  # as early as it can be
        wait_until(
            lambda: any(b"redflow.cli.child" in _command(pid) for pid in children.read_text().split()),
            timeout_s=DEADLINE_S,
            what="the worker process",
        )
    os.killpg(program.process.pid, signal.SIGINT)
    assert program.wait() == 0
    assert program.err == []


def _command(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""

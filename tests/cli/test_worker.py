"""`redflow worker`: real processes, real signals."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from redflow.client import RedflowClient, create_client
from tests.cli.programs import DEADLINE_S, Program, Programs
from tests.support.servers import ServerOptions, ServerProcess, wait_until

FLOWS = """
import asyncio, os, sys, time
from pathlib import Path
from redflow import create_client, get_default_client, workflow

def note(text):
    with open("effects", "a") as file:
        print(text, file=file)

@workflow("where")
async def where(ctx):
    here = create_client()
    return {
        "pid": os.getpid(),
        "loop": type(asyncio.get_running_loop()).__module__,
        "prefix": here.prefix,
        "app": here.app,
        "same": get_default_client().connection.address == here.connection.address,
        "path": sys.path.count(os.getcwd()),
        "args": sys.argv[2:],
    }

@workflow("other", queue="b")
async def other(ctx):
    return "b"

@workflow("until")
async def until(ctx):
    async def first():
        note("first")
    await ctx.step.run("first", first)
    note(f"waits in {os.getpid()}")
    try:
        while not Path("go").exists():
            await asyncio.sleep(0.01)
    except asyncio.CancelledError:
        note("interrupted")
        raise
    note("done")
    return os.getpid()

@workflow("deaf")
async def deaf(ctx):
    note(f"deaf in {os.getpid()}")
    while not Path("go").exists():
        time.sleep(0.01)
    return os.getpid()

@workflow("hang", max_attempts=1)
async def hang(ctx):
    def stuck():
        note("stuck")
        time.sleep(600)
    await ctx.step.run("stuck", stuck, timeout_ms=50)
"""


@pytest.fixture
async def client(redis_url: str, prefix: str) -> AsyncIterator[RedflowClient]:
    client = create_client(url=redis_url, prefix=prefix)
    yield client
    await client.close()


@pytest.fixture
def worker(programs: Programs, redis_url: str, prefix: str) -> Callable[..., Program]:
    """Starts `redflow worker flows ...` and waits until it is ready."""
    programs.write("flows.py", FLOWS)

    def start(*arguments: str) -> Program:
        program = programs.start("worker", "flows", "--url", redis_url, "--prefix", prefix, *arguments)
        program.worker_pid()
        return program

    return start


def effects(programs: Programs) -> list[str]:
    """What the workflows noted so far."""
    file = programs.directory / "effects"
    return file.read_text().splitlines() if file.exists() else []


def wait_for_effect(programs: Programs, start: str, times: int = 1) -> str:
    """Wait until an effect that starts so was noted `times` times; returns the last one."""

    def found() -> list[str]:
        return [line for line in effects(programs) if line.startswith(start)]

    wait_until(lambda: len(found()) >= times, timeout_s=DEADLINE_S, what=start)
    return found()[-1]


async def test_it_runs_workflows_in_the_environment_of_its_options(
    worker: Callable[..., Program], client: RedflowClient, prefix: str
) -> None:
    program = worker("--queues", "default, b")
    handle = await client.emit_workflow("where", {})
    result = await handle.result()
    assert result == {
        "pid": program.worker_pid(),
        "loop": "uvloop" if importlib.util.find_spec("uvloop") else "asyncio.unix_events",
        "prefix": prefix,
        "app": "flows",
        "same": True,
        "path": 1,
        "args": ["flows"],
    }
    assert await (await client.emit_workflow("other", {})).result() == "b"
    program.wait_for(r"5 workflows \(where, other, until, deaf, hang\), queues flows:default, flows:b, on redis://")
    assert program.interrupt() == 0
    assert program.err == []


async def test_sigterm_lets_runs_end_within_the_grace_period(
    worker: Callable[..., Program], client: RedflowClient, programs: Programs
) -> None:
    program = worker()
    handle = await client.emit_workflow("until", {})
    await asyncio.to_thread(wait_for_effect, programs, "waits")
    program.send(signal.SIGTERM)
    program.wait_for("stopping: runs have 10 s to end")
    (programs.directory / "go").touch()
    assert await handle.result() == program.worker_pid()
    assert program.wait() == 0
    assert effects(programs)[-1] == "done"
    assert "interrupted" not in effects(programs)


async def test_what_does_not_end_in_time_is_handed_back(
    worker: Callable[..., Program], client: RedflowClient, programs: Programs
) -> None:
    program = worker("--grace-ms", "50", "--lease-ms", "600000")
    handle = await client.emit_workflow("until", {})
    await asyncio.to_thread(wait_for_effect, programs, "waits")
    program.send(signal.SIGINT)
    assert program.wait() == 0
    again = worker()
    await asyncio.to_thread(wait_for_effect, programs, "waits", 2)
    (programs.directory / "go").touch()
    assert await handle.result() == again.worker_pid()
    state = await handle.get_state()
    assert state is not None
    assert state["attempt"] == 1
    assert effects(programs).count("first") == 1


async def test_a_second_signal_hands_everything_back_at_once(
    worker: Callable[..., Program], client: RedflowClient, programs: Programs
) -> None:
    program = worker("--grace-ms", "600000", "--lease-ms", "600000")
    handle = await client.emit_workflow("until", {})
    await asyncio.to_thread(wait_for_effect, programs, "waits")
    program.send(signal.SIGTERM)
    program.wait_for("stopping")
    program.send(signal.SIGTERM)
    assert program.wait() == 0
    assert effects(programs)[-1] == "interrupted"
    assert program.err == []
    worker()
    (programs.directory / "go").touch()
    await handle.result()


async def test_a_handler_that_blocks_everything_is_killed_by_the_third_signal(
    worker: Callable[..., Program], client: RedflowClient, programs: Programs
) -> None:
    program = worker("--grace-ms", "600000", "--lease-ms", "500")
    handle = await client.emit_workflow("deaf", {})
    await asyncio.to_thread(wait_for_effect, programs, "deaf")
    program.send(signal.SIGTERM)
    program.wait_for("stopping")
    program.send(signal.SIGTERM)
    program.send(signal.SIGINT)  # not the same one: two of a kind may be delivered as one
    assert program.wait() == 0
    program.wait_for(r"worker \d+ did not end and was killed")
    (programs.directory / "go").touch()
    again = worker()
    assert await handle.result() == again.worker_pid()


async def test_sigterm_to_every_process_is_one_signal(
    worker: Callable[..., Program], client: RedflowClient, programs: Programs
) -> None:
    """As service managers send it."""
    program = worker()
    handle = await client.emit_workflow("until", {})
    await asyncio.to_thread(wait_for_effect, programs, "waits")
    for pid in (program.worker_pid(), program.process.pid, program.worker_pid()):
        os.kill(pid, signal.SIGTERM)
    program.wait_for("stopping")
    (programs.directory / "go").touch()
    assert await handle.result() == program.worker_pid()
    assert program.wait() == 0


async def test_a_killed_process_is_replaced(
    worker: Callable[..., Program], client: RedflowClient, programs: Programs
) -> None:
    program = worker("--processes", "2", "--lease-ms", "500")
    pids = {program.worker_pid(times=1), program.worker_pid(times=2)}
    handle = await client.emit_workflow("until", {})
    victim = int((await asyncio.to_thread(wait_for_effect, programs, "waits")).split()[-1])
    assert victim in pids
    os.kill(victim, signal.SIGKILL)
    program.wait_for(rf"worker {victim} ended: killed by SIGKILL; another one in 0.5 s")
    pids.add(program.worker_pid(times=3))
    assert len(pids) == 3
    (programs.directory / "go").touch()
    assert await handle.result() in pids - {victim}
    assert effects(programs).count("first") == 1
    assert program.interrupt() == 0


async def test_a_process_ended_by_somebody_else_is_replaced(worker: Callable[..., Program]) -> None:
    program = worker()
    os.kill(program.worker_pid(), signal.SIGTERM)
    program.wait_for("ended: exit code 0; another one")
    program.worker_pid(times=2)
    assert program.interrupt() == 0


async def test_without_its_command_a_worker_hands_back_and_ends(
    worker: Callable[..., Program], client: RedflowClient, programs: Programs
) -> None:
    program = worker("--grace-ms", "100", "--lease-ms", "600000")
    handle = await client.emit_workflow("until", {})
    await asyncio.to_thread(wait_for_effect, programs, "waits")
    program.send(signal.SIGKILL)
    program.wait()  # the streams end with the worker process
    assert effects(programs)[-1] == "interrupted"
    worker()
    (programs.directory / "go").touch()
    await handle.result()


async def test_it_exits_70_when_all_threads_hang(
    worker: Callable[..., Program], client: RedflowClient, programs: Programs
) -> None:
    program = worker("--concurrency", "1", "--processes", "2", "--grace-ms", "100")
    handle = await client.emit_workflow("hang", {})
    assert program.wait() == 70
    program.wait_for(r"worker \d+: all threads hang")
    assert effects(programs) == ["stuck"]
    state = await handle.get_state()
    assert state is not None
    assert state.get("error", {}).get("kind") == "timeout"


async def test_a_server_that_goes_away_and_comes_back(
    programs: Programs, private_server: Callable[[ServerOptions], ServerProcess]
) -> None:
    server = private_server(ServerOptions(appendonly=True))
    programs.write("flows.py", FLOWS)
    program = programs.start("worker", "flows", "--url", server.url)
    first = program.worker_pid()
    server.kill()
    os.kill(first, signal.SIGKILL)
    # Once it has run, a command does not give up: it says why, and tries again.
    program.wait_for(r"ended: can't reach .*; another one in 1 s")
    server.start()
    program.worker_pid(times=2)
    client = create_client(url=server.url)
    assert await (await client.emit_workflow("other", {})).result() == "b"
    await client.close()
    assert program.interrupt() == 0


async def test_several_modules_and_a_path(
    programs: Programs, redis_url: str, prefix: str, client: RedflowClient
) -> None:
    programs.write("shop/__init__.py", "")
    programs.write("shop/prices.py", "VAT = 20")
    programs.write(
        "shop/flows.py",
        "from redflow import workflow\nfrom shop.prices import VAT\n@workflow('vat')\nasync def vat(ctx): return VAT\n",
    )
    programs.write("apart/beside.py", "WORD = 'beside'")
    programs.write(
        "apart/lone.py",
        "from redflow import workflow\nimport beside\n@workflow('lone')\nasync def lone(ctx): return beside.WORD\n",
    )
    program = programs.start("worker", "shop/flows.py", "./apart/lone.py", "--url", redis_url, "--prefix", prefix)
    program.wait_for(r"2 workflows \(vat, lone\), queues shop:default")
    assert await (await client.emit_workflow("vat", {})).result() == 20
    assert await (await client.emit_workflow("lone", {})).result() == "beside"
    assert program.interrupt() == 0


def test_a_module_named_like_one_of_pythons(programs: Programs, redis_url: str, prefix: str) -> None:
    for name in ("types", "logging", "redis"):
        programs.write(f"{name}.py", "1 / 0")
    programs.write("flows.py", FLOWS)
    program = programs.start("worker", "flows", "--url", redis_url, "--prefix", prefix)
    program.worker_pid()
    assert program.interrupt() == 0
    code, refused = programs.run("worker", "./logging.py", "--url", redis_url, "--prefix", prefix)
    assert code == 2
    refused.wait_for(r"logging.py can't be imported: the name logging belongs to /.*/logging/__init__.py")


def test_the_application_may_come_from_the_environment(programs: Programs, redis_url: str, prefix: str) -> None:
    programs.write("flows.py", FLOWS)
    arguments = ("worker", "flows", "--url", redis_url, "--prefix", prefix, "--queues", "b")
    program = programs.start(*arguments, REDFLOW_APP="env")
    program.wait_for("queues env:b,")
    assert program.interrupt() == 0
    program = programs.start(*arguments, "--app", "given", "--prefix", f"{prefix}2", REDFLOW_APP="env")
    program.wait_for("queues given:b,")
    assert program.interrupt() == 0


def test_the_url_may_come_from_the_environment(programs: Programs, redis_url: str, prefix: str) -> None:
    programs.write("flows.py", FLOWS)
    program = programs.start("worker", "flows", REDIS_URL=redis_url, REDFLOW_PREFIX=prefix)
    program.worker_pid()
    assert program.interrupt() == 0


def test_ctrl_c_while_a_module_is_imported(programs: Programs, redis_url: str, prefix: str, tmp_path: Path) -> None:
    programs.write(
        "flows.py", "import pathlib, time\npathlib.Path('importing').touch()\nwhile True:\n    time.sleep(0.01)\n"
    )
    program = programs.start("worker", "flows", "--url", redis_url, "--prefix", prefix)
    wait_until((tmp_path / "importing").exists, timeout_s=DEADLINE_S, what="the import")
    assert program.interrupt() == 0
    assert program.err == []


def test_the_log_level(programs: Programs, redis_url: str, prefix: str) -> None:
    programs.write("flows.py", FLOWS + "\nimport logging\nlogging.getLogger('shop').info('imported')\n")
    for level, lines in (("info", 1), ("warning", 0)):
        program = programs.start("worker", "flows", "--url", redis_url, "--prefix", prefix, "--log-level", level)
        program.worker_pid()
        assert program.interrupt() == 0
        assert len([line for line in program.err if "INFO    shop" in line]) == lines, program.text

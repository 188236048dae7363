"""`redflow run`: what it prints and its exit codes."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from redflow.client import RedflowClient, create_client
from tests.cli.here import Here
from tests.cli.programs import Programs
from tests.support.servers import ServerProcess

WORKFLOWS = """
import asyncio
from pydantic import BaseModel
from redflow import workflow

class Order(BaseModel):
    number: int

@workflow("echo")
async def echo(ctx):
    return {"got": ctx.input}

@workflow("boom", max_attempts=1)
async def boom(ctx):
    raise ValueError("no [bold]luck[/bold]")

@workflow("order", input_schema=Order)
async def order(ctx):
    return ctx.input.number

@workflow("endless")
async def endless(ctx):
    await asyncio.Event().wait()
"""


@pytest.fixture(scope="module")
def world(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A worker that serves the workflows; the environment that leads to it."""
    programs = Programs(tmp_path_factory.mktemp("world"))
    environment = {"REDIS_URL": server.url, "REDFLOW_PREFIX": "cli-run"}
    programs.write("flows.py", WORKFLOWS)
    worker = programs.start("worker", "flows", "--grace-ms", "0", **environment)
    worker.worker_pid()
    yield environment
    assert worker.interrupt() == 0, worker.text
    programs.close()


@pytest.fixture
async def client(world: dict[str, str]) -> RedflowClient:
    return create_client(url=world["REDIS_URL"], prefix=world["REDFLOW_PREFIX"])


def test_it_prints_the_id_and_nothing_else(programs: Programs, world: dict[str, str]) -> None:
    code, program = programs.run("run", "echo", "--input", '{"a": 1}', **world)
    assert (code, program.err) == (0, [])
    assert [line.partition("_")[0] for line in program.out] == ["run"]


def test_wait_prints_the_output(programs: Programs, world: dict[str, str]) -> None:
    code, program = programs.run("run", "echo", "--input", '{"a": [1, "ä"]}', "--wait", **world)
    assert (code, program.err) == (0, [])
    assert json.loads("\n".join(program.out[1:])) == {"got": {"a": [1, "ä"]}}
    assert "ä" in program.text


def test_the_input_is_an_empty_object_when_none_is_given(programs: Programs, world: dict[str, str]) -> None:
    code, program = programs.run("run", "echo", "--wait", "--json", **world)
    assert code == 0
    result = json.loads(program.out[0])
    assert result == {"id": result["id"], "status": "succeeded", "output": {"got": {}}}


@pytest.mark.parametrize("where", ["file", "standard input"])
def test_input_from_a_file(programs: Programs, world: dict[str, str], where: str) -> None:
    programs.write("in.json", '\ufeff{"from": "file"}')
    source = "in.json" if where == "file" else "-"
    stdin = None if where == "file" else '{"from": "standard input"}'
    code, program = programs.run("run", "echo", "--input-file", source, "--wait", "--json", stdin=stdin, **world)
    assert code == 0, program.text
    assert json.loads(program.out[0])["output"] == {"got": {"from": where}}


def test_a_run_that_fails_is_exit_code_1_with_its_error(programs: Programs, world: dict[str, str]) -> None:
    code, program = programs.run("run", "boom", "--wait", **world)
    assert code == 1
    assert program.err[0] == f"run {program.out[0]} failed: ValueError: no [bold]luck[/bold]"
    assert 'raise ValueError("no [bold]luck[/bold]")' in program.text


def test_a_run_that_fails_as_json(programs: Programs, world: dict[str, str]) -> None:
    code, program = programs.run("run", "boom", "--wait", "--json", **world)
    assert (code, program.err) == (1, [])
    result = json.loads(program.out[0])
    assert (result["status"], result["error"]["name"]) == ("failed", "ValueError")


def test_input_that_its_schema_refuses_is_a_failed_run(programs: Programs, world: dict[str, str]) -> None:
    code, program = programs.run("run", "order", "--input", '{"number": "x"}', "--wait", **world)
    assert code == 1
    assert "InputValidationError" in program.err[0]


async def test_a_run_that_is_canceled_is_exit_code_3(
    programs: Programs, world: dict[str, str], client: RedflowClient
) -> None:
    program = programs.start("run", "endless", "--wait", **world)
    run_id = program.wait_for("run_.+")[0]
    assert await client.cancel_run(run_id, reason="changed my mind")
    await client.close()
    assert program.wait() == 3
    assert program.err == [f"run {run_id} was canceled: Run canceled: changed my mind"]


async def test_a_run_that_lasts_is_exit_code_4_and_goes_on(
    programs: Programs, world: dict[str, str], client: RedflowClient
) -> None:
    code, program = programs.run("run", "endless", "--wait", "--timeout", "0.05", **world)
    assert code == 4
    assert program.err == [f"run {program.out[0]} has not ended within 0.05 s; it goes on"]
    state = await client.get_run(program.out[0])
    assert state is not None
    assert state["status"] in ("queued", "running")
    await client.cancel_run(program.out[0])
    await client.close()


async def test_ctrl_c_leaves_the_run_alone(programs: Programs, world: dict[str, str], client: RedflowClient) -> None:
    program = programs.start("run", "endless", "--wait", **world)
    run_id = program.wait_for("run_.+")[0]
    program.send(signal.SIGINT)
    assert program.wait() == 130
    assert program.err == []
    assert await client.cancel_run(run_id)
    await client.close()


def test_the_same_idempotency_key_gives_the_same_run(programs: Programs, world: dict[str, str]) -> None:
    ids = {
        programs.run("run", "echo", "--idempotency-key", "once", **world)[1].out[0],
        programs.run("run", "echo", "--idempotency-key", "once", "--wait", **world)[1].out[0],
    }
    assert len(ids) == 1


async def test_run_at_schedules(programs: Programs, world: dict[str, str], client: RedflowClient) -> None:
    code, program = programs.run("run", "echo", "--run-at", "2030-01-31T08:00Z", "--json", **world)
    assert code == 0
    state = await client.get_run(json.loads(program.out[0])["id"])
    await client.close()
    assert state is not None
    assert (state["status"], state.get("available_at")) == ("scheduled", 1_896_076_800_000)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--input", '{"a": 1,}'), r"--input is not JSON: .* at line 1 column \d"),
        (("--input", '{"a":\n nope}'), "--input is not JSON: Expecting value at line 2 column 2"),
        (("--input", "NaN"), r"input.*\$"),
        (("--input", "[" * 100_000), "nested too deeply"),
        (("--input", "1" * 30), r"input.*\$"),
        (("--input", "{}", "--input-file", "x"), "not both"),
        (("--input-file", "missing.json"), "--input-file missing.json can't be read: No such file"),
        (("--input-file", "latin.json"), "not UTF-8"),
        (("--run-at", "tomorrow"), "--run-at must be a time such as .* got 'tomorrow'"),
        (("--run-at", "2999-01-01"), "2999-01-01"),
        (("--timeout", "1"), "--wait"),
        (("--idempotency-key", "x" * 300), "idempotency_key.*255"),
    ],
)
def test_what_it_refuses(
    here: Here, tmp_path: Path, world: dict[str, str], arguments: tuple[str, ...], said: str
) -> None:
    (tmp_path / "latin.json").write_bytes(b'"\xe4"')
    assert re.search(said, here.refused("run", "echo", *arguments, *_options(world)))


def test_an_unknown_workflow(here: Here, world: dict[str, str]) -> None:
    line = here.refused("run", "ecco", *_options(world))
    assert line == "redflow: Unknown workflow: ecco (did you mean echo?)\n"


def _options(world: dict[str, str]) -> tuple[str, ...]:
    return ("--url", world["REDIS_URL"], "--prefix", world["REDFLOW_PREFIX"])


def test_python_dash_m_and_version(programs: Programs) -> None:
    code, program = programs.run("version")
    assert code == 0
    assert program.wait_for(r"^redflow \d+\.\d+")


def test_the_script_of_the_package() -> None:
    from importlib.metadata import entry_points

    (script,) = entry_points(group="console_scripts", name="redflow")
    assert script.value == "redflow.cli:main"
    assert callable(script.load())

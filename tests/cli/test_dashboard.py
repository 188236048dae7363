"""`redflow dashboard`, and the dashboard of `redflow dev`."""

from __future__ import annotations

import re
import socket

import httpx
import pytest

from tests.cli.here import Here
from tests.cli.programs import Program, Programs

FLOWS = """
from redflow import workflow

@workflow("say")
async def say(ctx):
    return "said"
"""
TOKEN = "open sesame, please"


def shown(program: Program) -> str:
    """The dashboard's URL."""
    return program.wait_for(r"(http://127\.0\.0\.1:\d+)/$")[1]


def test_dev_prints_the_dashboard_first_and_a_run_is_seen_there(programs: Programs) -> None:
    programs.write("flows.py", FLOWS)
    program = programs.start("dev", "flows")
    url = shown(program)
    assert program.out[0] == f"dashboard: {url}/"
    program.worker_pid()
    environment = {"REDIS_URL": program.wait_for(r"REDIS_URL=(\S+)$")[1]}
    code, run = programs.run("run", "say", "--wait", **environment)
    assert code == 0, run.text
    text = httpx.get(f"{url}/runs").text
    assert run.out[0] in text
    assert "actions on" in text, "it is a server of its own"
    assert httpx.get(f"{url}/", headers={"host": "evil.example"}).status_code == 421
    assert program.interrupt() == 0
    assert program.err == []


def test_dev_on_a_server_of_others_only_looks(programs: Programs, redis_url: str, prefix: str) -> None:
    programs.write("flows.py", FLOWS)
    program = programs.start("dev", "flows", "--url", redis_url, "--prefix", prefix)
    assert "read-only" in httpx.get(f"{shown(program)}/runs").text
    assert program.interrupt() == 0
    without = programs.start("dev", "flows", "--url", redis_url, "--prefix", prefix, "--no-dashboard")
    without.worker_pid()
    assert without.interrupt() == 0
    assert "dashboard" not in without.text


def test_the_command_serves_until_it_is_ended(programs: Programs, redis_url: str, prefix: str) -> None:
    options = ("--url", redis_url, "--prefix", prefix)
    plain = programs.start("dashboard", *options)
    answer = httpx.get(f"{shown(plain)}/")
    assert answer.status_code == 200
    assert "read-only" in answer.text
    assert "(read-only)" in plain.text
    acting = programs.start("dashboard", *options, "--allow-actions", "--mask", "password, card")
    text = httpx.get(f"{shown(acting)}/runs").text
    assert "actions on" in text
    assert "masked" in text
    assert shown(acting) != shown(plain), "the usual port was taken"
    assert plain.interrupt() == 0
    assert acting.interrupt() == 0
    assert plain.err == acting.err == []


def test_others_need_the_token(programs: Programs, redis_url: str, prefix: str) -> None:
    options = ("--url", redis_url, "--prefix", prefix, "--host", "0.0.0.0")
    program = programs.start("dashboard", *options, REDFLOW_DASHBOARD_TOKEN=TOKEN)
    url = shown(program)
    assert httpx.get(f"{url}/runs").status_code == 303
    assert httpx.get(f"{url}/runs", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert program.interrupt() == 0
    assert TOKEN not in program.text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--host", "0.0.0.0"), "refusing to listen on 0.0.0.0 without a token"),
        (("--host", "::"), "without a token"),
        (("--token", "short"), "the token must have 16 characters or more, got 5"),
        (("--url", "http://x"), "bad server URL"),
        (("--host", "no.such.host.invalid", "--token", TOKEN), "can't listen on no.such.host.invalid"),
    ],
)
def test_what_is_refused(options: tuple[str, ...], said: str, here: Here) -> None:
    assert said in here.refused("dashboard", *options)


def test_a_port_that_is_taken(here: Here) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert re.search(f"can't listen on 127.0.0.1:{port}", here.refused("dashboard", "--port", str(port)))

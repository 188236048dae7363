"""`redflow runs explain`: what it prints and its exit codes."""

from __future__ import annotations

import asyncio
import json

from redflow.client import create_client
from tests.cli.here import Here


def start_one(url: str, prefix: str) -> str:
    """A run that nobody serves; its id."""

    async def start() -> str:
        client = create_client(url=url, prefix=prefix)
        try:
            return (await client.run_by_name("w", None, queue_override="q")).id
        finally:
            await client.close()

    return asyncio.run(start())


def test_it_says_why_a_run_waits(here: Here, redis_url: str, prefix: str) -> None:
    run = start_one(redis_url, prefix)
    where = ("--url", redis_url, "--prefix", prefix)
    code, out, err = here.run("runs", "explain", run, *where)
    assert (code, err) == (0, "")
    assert out == "w, queued: No worker has registered the workflow 'w' yet; no live worker knows any workflow.\n"
    code, out, _ = here.run("runs", "explain", run, "--json", *where)
    told = json.loads(out)
    assert (code, told["run_id"], told["waits_for"], told["status"]) == (0, run, "workflow", "queued")


def test_refusals(here: Here, redis_url: str, prefix: str) -> None:
    assert "there is no run run_x" in here.refused("runs", "explain", "run_x", "--url", redis_url, "--prefix", prefix)
    assert "127.0.0.1:1" in here.refused(
        "runs", "explain", "run_" + "0" * 8 + "-0000-7000-8000-" + "0" * 12, "--url", "redis://127.0.0.1:1"
    )

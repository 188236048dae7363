"""What is logged: ids and sizes, never payloads or passwords; and nothing in it can forge a line."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from pydantic import BaseModel

from redflow import EventTrigger, RedflowError, define_workflow, telemetry
from redflow.domain.run import stored_run_id
from redflow.errors import NonRetriableError
from redflow.types import Durability, StepRetry, WorkflowRetryPolicy
from tests.support.servers import ServerOptions, ServerProcess
from tests.support.world import Context, World, eventually, impatient

PASSWORD, PAYLOAD = "pw-canary-4711", "payload-canary-0815"


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """Everything that is logged from DEBUG on, as it would be written, and all telemetry."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logger = logging.getLogger("redflow")
    level, root = logger.level, logging.getLogger()
    logger.setLevel(logging.DEBUG)
    root.addHandler(handler)
    forget = telemetry.listen(lambda event, fields: print(event, dict(fields), file=text))
    yield text
    forget()
    root.removeHandler(handler)
    logger.setLevel(level)


class Order(BaseModel):
    number: int


async def handler(ctx: Context) -> object:
    kind = ctx.input["kind"] if isinstance(ctx.input, dict) else None

    def fail() -> None:
        raise ValueError(f"failed with {PAYLOAD}")

    match kind:
        case "step":
            await ctx.step.run("s", fail, retry=StepRetry(max_attempts=2, delay=1))
        case "output":
            return {PAYLOAD: object()}
        case "step output":
            await ctx.step.run("s", lambda: {PAYLOAD: {1}})
        case "raise":
            raise NonRetriableError(PAYLOAD)
        case "open":
            left = asyncio.get_running_loop().create_task(ctx.step.run("left", asyncio.sleep, 10))
            await asyncio.sleep(0.05)
            assert not left.done()
        case "child":
            await ctx.step.run_workflow("c", "w", {"kind": "raise", "secret": PAYLOAD})
        case "durable":
            await ctx.step.run("s", lambda: PAYLOAD, durability=Durability.REPLICATED)
        case "event":
            await ctx.step.emit_event("e", "e", {"secret": PAYLOAD}, correlation_key="k")
    return PAYLOAD


async def test_no_password_and_no_payload_is_logged(
    private_server: Callable[[ServerOptions], ServerProcess], logged: io.StringIO
) -> None:
    server = private_server(ServerOptions(requirepass=PASSWORD, appendonly=True))
    world = World(server.url, "hygiene")
    policy = WorkflowRetryPolicy(delay=1, max_attempts=2)
    define_workflow("w", handler=handler, registry=world.registry, retries=policy, event=EventTrigger("e"))
    define_workflow("typed", handler=handler, registry=world.registry, input_schema=Order)
    worker = await world.worker()
    worker.client.connection.durable_wait_ms = 10
    kinds = ("step", "output", "step output", "raise", "open", "child", "durable", "event", "fine")
    handles = [await world.start({"kind": kind, "secret": PAYLOAD}) for kind in kinds]
    handles.append(await world.client.emit_workflow("typed", {"number": PAYLOAD}))
    for handle in handles:
        await world.ended(handle)
    broken = await world.client.run_by_name("w", {"kind": PAYLOAD}, queue_override="held")
    await world.redis.hset(world.keys.run(stored_run_id(broken.id) or ""), "i", f"{{{PAYLOAD}")
    await world.worker(replace(world.options(), queues=["held"]))
    await world.ended(broken)
    with pytest.raises((TypeError, RedflowError)):
        await world.client.emit_workflow("w", {"secret": PAYLOAD, "bad": object()})
    server.kill()
    with pytest.raises(RedflowError) as caught:
        await impatient(world.client).emit_workflow("w", {"secret": PAYLOAD})
    server.start()
    await eventually(world.client.list_workflows, "the server is back")
    shown = f"{caught.value!r} {world.client!r} {world.client.connection.address} {worker!r} {handles[0]!r}"
    await world.close()
    text = logged.getvalue()
    assert "run.settled" in text, "the log was listened to"
    for line in [*text.splitlines(), shown]:
        assert PASSWORD not in line
        assert PAYLOAD not in line, line[:500]


def test_control_characters_are_escaped(logged: io.StringIO) -> None:
    log = logging.getLogger("redflow")
    log.warning("run %s: %s", "x", "a\nERROR forged\x1b[31m\u202e\x9b")
    try:
        raise ValueError("red \x1b[31m\x07\nnext line")
    except ValueError:
        log.exception("it %s", "broke\r")
    text = logged.getvalue()
    assert "WARNING run x: a\\nERROR forged\\x1b[31m\\u202e\\x9b\n" in text
    assert "ERROR it broke\\r\n" in text
    assert "ValueError: red \\x1b[31m\\x07\nnext line" in text
    assert not set(text) & set("\x1b\x07\r\u202e\x9b")


def test_lines_without_them_stay_as_they_are(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("redflow").warning("run %s: %d é 😀", "x", 5)
    [record] = caplog.records
    assert (record.msg, record.args) == ("run %s: %d é 😀", ("x", 5))

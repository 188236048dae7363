"""The threads of plain functions: places, what is given up, and the end."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Callable

import pytest

from redflow.definitions import BlockingWorkflowHandlerContext
from redflow.domain.outcome import Succeeded
from redflow.execution.threads import ThreadPool
from tests.support.attempts import run_attempt

LONG_S = 20.0


class Gate:
    """A function that says when it begins and ends when it is let go."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.opened = threading.Event()
        self.ended = threading.Event()

    def __call__(self) -> str:
        self.begun.set()
        assert self.opened.wait(LONG_S)
        self.ended.set()
        return "passed"

    async def has_begun(self) -> None:
        assert await asyncio.to_thread(self.begun.wait, LONG_S)


@pytest.fixture
async def pool() -> AsyncIterator[ThreadPool]:
    pool = ThreadPool(2)
    yield pool
    pool.close()


def state(pool: ThreadPool) -> tuple[int, bool]:
    return pool.stuck, pool.exhausted


def serving() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "redflow-step"}


async def test_a_result_and_an_error(pool: ThreadPool) -> None:
    def fail() -> None:
        raise LookupError("failed")

    assert await pool.submit(lambda: threading.current_thread().daemon) is True
    with pytest.raises(LookupError, match="failed"):
        await pool.submit(fail)
    with pytest.raises(RuntimeError, match="StopIteration"):
        await pool.submit(lambda: next(iter(())))


async def test_context_variables_are_copied(pool: ThreadPool) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    variable.set("outside")

    def look_and_change() -> str:
        found = variable.get()
        variable.set("inside")
        return found

    assert await pool.submit(look_and_change) == "outside"
    assert variable.get() == "outside"


async def test_work_beyond_the_places_waits_for_one(pool: ThreadPool) -> None:
    before = serving()
    gates = [Gate() for _ in range(3)]
    futures = [pool.submit(gate) for gate in gates]
    await gates[0].has_begun()
    await gates[1].has_begun()
    assert len(serving() - before) == 2
    assert not gates[2].begun.is_set()

    gates[0].opened.set()
    await gates[2].has_begun()
    for gate in gates:
        gate.opened.set()
    assert await asyncio.gather(*futures) == ["passed"] * 3


async def test_a_function_that_is_given_up_keeps_its_place_until_it_ends(pool: ThreadPool) -> None:
    gates = [Gate(), Gate()]
    futures = [pool.submit(gate) for gate in gates]
    for gate in gates:
        await gate.has_begun()
    futures[0].cancel()
    await asyncio.wait({futures[0]})
    assert state(pool) == (1, False)
    futures[1].cancel()
    await asyncio.wait({futures[1]})
    assert state(pool) == (2, True)

    later = pool.submit(lambda: "later")
    gates[0].opened.set()
    assert await later == "later"
    assert state(pool) == (1, False)
    gates[1].opened.set()
    both = threading.Barrier(2)  # passed when both threads are done with what they did before
    await asyncio.gather(*(pool.submit(lambda: both.wait(LONG_S)) for _ in range(2)))
    assert state(pool) == (0, False)


async def test_a_function_that_is_given_up_before_its_turn_is_not_called(pool: ThreadPool) -> None:
    gates = [Gate(), Gate()]
    futures = [pool.submit(gate) for gate in gates]
    called = threading.Event()
    waiting = pool.submit(called.set)
    for gate in gates:
        await gate.has_begun()
    waiting.cancel()
    await asyncio.wait({waiting})
    assert pool.stuck == 0
    for gate in gates:
        gate.opened.set()
    await asyncio.gather(*futures)
    await asyncio.gather(*(pool.submit(lambda: None) for _ in range(4)))
    assert not called.is_set()


async def test_a_result_that_comes_together_with_the_cancel_is_dropped(
    pool: ThreadPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    future = pool.submit(gate)
    loop = asyncio.get_running_loop()
    complaints: list[dict[str, object]] = []
    loop.set_exception_handler(lambda loop, context: complaints.append(context))
    await gate.has_begun()
    delivered = threading.Event()
    call_soon = loop.call_soon_threadsafe

    def deliver(callback: Callable[..., object], *args: object) -> None:
        call_soon(callback, *args)
        delivered.set()

    monkeypatch.setattr(loop, "call_soon_threadsafe", deliver)
    gate.opened.set()
    # Blocks the loop, so that the result stands in line when the future is cancelled.
    assert delivered.wait(LONG_S)
    monkeypatch.undo()
    future.cancel()
    await asyncio.wait({future})
    await pool.submit(lambda: None)
    assert complaints == []
    assert pool.stuck == 0


async def test_close_ends_the_threads_after_their_work() -> None:
    before = serving()
    pool = ThreadPool(3)
    gates = [Gate() for _ in range(3)]
    futures = [pool.submit(gate) for gate in gates]
    handler = pool.handlers.submit(lambda: "handler")
    for gate in gates:
        await gate.has_begun()
    pool.close()
    for gate in gates:
        gate.opened.set()
    assert await asyncio.gather(*futures, handler) == ["passed"] * 3 + ["handler"]
    for thread in serving() - before:
        await asyncio.to_thread(thread.join, LONG_S)
    assert serving() <= before


async def test_a_system_without_threads_to_give(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    pool = ThreadPool(2)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            await pool.submit(lambda: None)
    gate = Gate()
    first = pool.submit(gate)
    await gate.has_begun()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        second = pool.submit(lambda: "waits for the first")
    gate.opened.set()
    assert await first == "passed"
    assert await second == "waits for the first"
    pool.close()


async def test_a_plain_handler_and_its_plain_steps_need_no_second_place() -> None:
    def handler(ctx: BlockingWorkflowHandlerContext[object]) -> int:
        return ctx.step.run("one", lambda: 1) + ctx.step.run("two", lambda: 2)

    ran = await run_attempt(handler, threads=1)
    assert ran.outcome == Succeeded(b"3")


async def test_handlers_that_were_given_up_exhaust_the_pool() -> None:
    pool = ThreadPool(1)
    gate = Gate()
    future = pool.handlers.submit(gate)
    await gate.has_begun()
    future.cancel()
    await asyncio.wait({future})
    assert state(pool) == (0, True)
    gate.opened.set()
    assert await pool.handlers.submit(lambda: "free") == "free"
    assert state(pool) == (0, False)
    pool.close()

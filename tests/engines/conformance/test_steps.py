"""step.run: names, caching, values, signals, failures, parallel steps (spec 9)."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from collections.abc import Awaitable, Callable

import pytest

from redflow import NonRetriableError, RedflowError, workflow
from redflow.domain.run import public_run_id
from redflow.errors import SerializedError
from redflow.types import CancelSignal, WorkflowRetryPolicy
from tests.support.world import Context, World

NOW = WorkflowRetryPolicy(delay=1)


async def failure(world: World, input: object = None) -> SerializedError:
    """Run `w` to its failure; the stored error."""
    await world.small_worker(10)
    handle = await world.start(input)
    assert await world.ended(handle) == "failed"
    state = await handle.get_state()
    assert state is not None
    return state["error"]


async def test_a_succeeded_step_is_cached_by_name_alone(world: World) -> None:
    @workflow("w", registry=world.registry, retries=NOW)
    async def w(ctx: Context) -> object:
        if ctx.run.attempt == 1:
            await ctx.step.run("s", lambda: "first")
            raise ValueError("again")
        return await ctx.step.run("s", world.did.append, "never called")

    assert await world.run() == "first"
    assert world.did == []


async def test_a_failed_step_is_run_anew_with_the_same_seq(world: World) -> None:
    def flaky(attempt: int) -> int:
        world.did.append(f"s{attempt}")
        if attempt < 3:
            raise ValueError("again")
        return attempt

    @workflow("w", registry=world.registry, retries=NOW)
    async def w(ctx: Context) -> object:
        await ctx.step.run("before", lambda: None)
        return await ctx.step.run("s", flaky, ctx.run.attempt)

    handle = await world.begin()
    assert await handle.result() == 3
    assert world.did == ["s1", "s2", "s3"]
    assert [s["seq"] for s in await world.client.get_run_steps(handle.id)] == [1, 2]
    for attempt in (await world.client.get_run_attempts(handle.id))[:2]:
        failed = attempt["steps"][-1]
        assert (failed["name"], failed["seq"], failed["status"]) == ("s", 2, "failed")


async def test_a_step_error_can_be_caught_and_the_handler_go_on(world: World) -> None:
    async def fails() -> None:
        raise KeyError("inside")

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        try:
            await ctx.step.run("s", fails)
        except KeyError as exc:
            said = exc.args[0]
        return await ctx.step.run("t", lambda: f"caught {said}")

    handle = await world.begin()
    assert await handle.result() == "caught inside"
    s, t = await world.client.get_run_steps(handle.id)
    assert (s["status"], s["error"]["name"], t["status"]) == ("failed", "KeyError", "succeeded")


async def test_duplicate_names_fail_the_run_retryably_even_if_cached(world: World) -> None:
    @workflow("w", registry=world.registry, retries=NOW, max_attempts=2)
    async def w(ctx: Context) -> None:
        await ctx.step.run("s", world.did.append, "once")
        await ctx.step.run("s", world.did.append, "never")

    error = await failure(world)
    assert error["name"] == "RedflowError"
    assert "Duplicate step name" in error["message"]
    assert "'s'" in error["message"]
    assert world.did == ["once"]
    [handle_attempts] = [await world.client.get_run_attempts(run) for run in await all_runs(world)]
    assert len(handle_attempts) == 2


async def all_runs(world: World) -> list[str]:
    """Ids of the failed runs of `w`."""
    ids = await world.redis.zrange(world.keys.index("failed", "w"), 0, -1)
    return [public_run_id(stored.decode()) for stored in ids if isinstance(stored, bytes)]


async def test_a_name_is_taken_in_one_pass_only_even_by_concurrent_calls(world: World) -> None:
    @workflow("w", registry=world.registry, max_attempts=1)
    async def w(ctx: Context) -> object:
        results = await asyncio.gather(
            ctx.step.run("s", lambda: 1), ctx.step.run("s", lambda: 2), return_exceptions=True
        )
        return [r if isinstance(r, int) else type(r).__name__ for r in results]

    assert await world.run() == [1, "RedflowError"]


async def test_values_are_json_round_trips_on_every_execution(world: World) -> None:
    @workflow("w", registry=world.registry, retries=NOW)
    async def w(ctx: Context) -> object:
        value: object = await ctx.step.run("s", lambda: {"t": (1, 2), 3: None, True: 1.5, None: "é", "e": [{}, []]})
        world.did.append(repr(value))
        if ctx.run.attempt == 1:
            raise ValueError("again")
        return value

    expected: dict[str, object] = {"t": [1, 2], "3": None, "true": 1.5, "null": "é", "e": [{}, []]}
    assert await world.run() == expected
    assert world.did == [repr(expected)] * 2


@pytest.mark.parametrize("value", [b"x", {1}, object(), float("nan"), 2**64, {"a": [float("inf")]}, "\ud800"])
async def test_an_output_that_is_not_json_fails_step_and_run_without_retry(world: World, value: object) -> None:
    @workflow("w", registry=world.registry, retries=NOW)
    async def w(ctx: Context) -> None:
        await ctx.step.run("s", lambda: value)

    error = await failure(world)
    assert error["kind"] == "serialization"
    assert error["message"] == "Step output is not JSON-serializable: s"
    [run] = await all_runs(world)
    [step] = await world.client.get_run_steps(run)
    assert (step["status"], step["error"]["kind"], step["attempt"]) == ("failed", "serialization", 1)


async def test_args_and_kwargs_reach_the_function(world: World) -> None:
    async def fn(*args: object, **kwargs: object) -> object:
        return [list(args), {k: v for k, v in kwargs.items() if k != "signal"}, "signal" in kwargs]

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        return await ctx.step.run("s", fn, 1, "b", retry=3, durability="x", name="n", fn="f", self=1, timeout_ms=5000)

    assert await world.run() == [[1, "b"], {"retry": 3, "durability": "x", "name": "n", "fn": "f", "self": 1}, True]


async def test_functions_of_every_sort(world: World) -> None:
    class Callable_:
        def __init__(self, n: int) -> None:
            self.n = n

        async def __call__(self, m: int) -> int:
            return self.n + m

        def method(self, m: int) -> int:
            return self.n * m

    async def coroutine(n: int) -> int:
        return n

    def gives_awaitable(n: int) -> Awaitable[int]:
        return coroutine(n)

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        run = ctx.step.run
        return [
            await run("async", coroutine, 1),
            await run("plain", lambda: 2),
            await run("awaitable", gives_awaitable, 3),
            await run("lambda", lambda: coroutine(4)),
            await run("object", Callable_(3), 2),
            await run("method", Callable_(3).method, 2),
            await run("partial", functools.partial(coroutine, 7)),
            await run("partial plain", functools.partial(max, 7, 8)),
            await run("builtin", len, "123456789"),
        ]

    assert await world.run() == list(range(1, 10))


async def test_plain_functions_run_in_daemon_threads_with_the_callers_context(world: World) -> None:
    variable = contextvars.ContextVar("variable", default="unset")
    threads: list[threading.Thread] = []

    def plain() -> str:
        threads.append(threading.current_thread())
        return variable.get()

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        variable.set("set")
        return await ctx.step.run("s", plain)

    assert await world.run() == "set"
    [thread] = threads
    assert thread is not threading.main_thread()
    assert thread.daemon


def with_signal(signal: CancelSignal) -> str:
    return type(signal).__name__


async def with_keywords(**kwargs: object) -> list[str]:
    return sorted(kwargs)


def without() -> str:
    return "none"


def traced(fn: Callable[..., object]) -> Callable[..., object]:
    """A decorator, all of whose functions share one code object."""

    @functools.wraps(fn)
    def wrapper(*args: object, **kwargs: object) -> object:
        return fn(*args, **kwargs)

    return wrapper


async def test_a_signal_is_injected_where_it_is_wanted(world: World) -> None:
    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        run = ctx.step.run
        return [
            await run("wants", with_signal),
            await run("keywords", with_keywords, a=1),
            await run("none", without),
            await run("given", with_signal, signal="mine"),
            await run("wrapped without", traced(without)),
            await run("wrapped with", traced(with_signal)),
            await run("again without", traced(without)),
        ]

    assert await world.run() == ["CancelSignal", ["a", "signal"], "none", "str", "none", "CancelSignal", "none"]


async def test_a_step_inside_a_step_is_refused_naming_both(world: World) -> None:
    @workflow("w", registry=world.registry, retries=NOW)
    async def w(ctx: Context) -> None:
        world.did.append("attempt")

        async def outer() -> None:
            await ctx.step.run("inner", world.did.append, "never")

        await ctx.step.run("outer", outer)

    error = await failure(world)
    assert "'inner'" in error["message"]
    assert "'outer'" in error["message"]
    assert world.did == ["attempt"], "not retried"


async def test_parallel_steps_in_gather_and_task_group(world: World) -> None:
    barrier = asyncio.Barrier(4)

    async def meet(n: int) -> int:
        await barrier.wait()
        return n

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        if ctx.input == "gather":
            return await asyncio.gather(*(ctx.step.run(f"s{n}", meet, n) for n in range(4)))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ctx.step.run(f"s{n}", meet, n)) for n in range(4)]
        return [task.result() for task in tasks]

    assert await world.run("gather") == [0, 1, 2, 3]
    assert await world.run("group") == [0, 1, 2, 3]


async def test_one_failing_step_of_a_gather_keeps_the_others_results(world: World) -> None:
    both = asyncio.Event()

    async def work(n: int, attempt: int) -> int:
        world.did.append(f"{n}@{attempt}")
        if n == 1 and attempt == 1:
            await both.wait()
            raise ValueError("one")
        both.set()
        return n

    @workflow("w", registry=world.registry, retries=NOW)
    async def w(ctx: Context) -> object:
        results = await asyncio.gather(
            *(ctx.step.run(f"s{n}", work, n, ctx.run.attempt) for n in range(3)), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return results

    assert await world.run() == [0, 1, 2]
    assert sorted(world.did) == ["0@1", "1@1", "1@2", "2@1"]


async def test_steps_left_open_are_canceled_and_named_and_the_outcome_stands(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> str:
        started = asyncio.Event()

        async def hang() -> None:
            started.set()
            await asyncio.Event().wait()

        tasks = [asyncio.ensure_future(ctx.step.run("open", hang))]
        await started.wait()
        tasks.append(asyncio.ensure_future(ctx.step.wait_for("nap", "1h")))
        await ctx.step.run("done", lambda: None)
        return "fine"

    handle = await world.begin()
    assert await handle.result() == "fine"
    statuses = {s["name"]: s["status"] for s in await world.client.get_run_steps(handle.id)}
    assert statuses == {"open": "canceled", "done": "succeeded", "nap": "canceled"}
    [warning] = [r for r in caplog.records if "open steps" in r.getMessage()]
    assert "nap, open" in warning.getMessage()


async def test_what_is_no_function_is_refused(world: World) -> None:
    @workflow("w", registry=world.registry, retries=NOW)
    async def w(ctx: Context) -> None:
        async def coroutine() -> None: ...

        world.did.append("attempt")
        await ctx.step.run("s", coroutine() if ctx.input == "coroutine" else ctx.input)  # type: ignore[arg-type]

    for value, said in (("coroutine", "coroutine"), (5, "int")):
        error = await failure(world, value)
        assert said in error["message"]
        assert "'s'" in error["message"]
    assert world.did == ["attempt"] * 2, "not retried"


async def test_a_generator_is_refused(world: World) -> None:
    def generate() -> object:
        yield 1

    @workflow("w", registry=world.registry, retries=NOW)
    async def w(ctx: Context) -> None:
        await ctx.step.run("s", generate)

    assert "generator" in (await failure(world))["message"]


@pytest.mark.parametrize("sort", ["async", "plain", "limited", "gathered"])
@pytest.mark.parametrize("error", [SystemExit("bye"), KeyboardInterrupt("bye")])
async def test_a_step_that_raises_an_exit_fails_the_run_and_the_worker_lives(
    world: World, sort: str, error: BaseException
) -> None:
    async def exits() -> None:
        raise error

    def plain() -> None:
        raise error

    @workflow("w", registry=world.registry, retries=NOW)
    async def w(ctx: Context) -> object:
        if ctx.input == "fine":
            return "fine"
        if sort == "plain":
            await ctx.step.run("s", plain)
        elif sort == "limited":
            await ctx.step.run("s", exits, timeout_ms=5000)
        elif sort == "gathered":
            await asyncio.gather(ctx.step.run("s", exits), ctx.step.run("t", lambda: None))
        await ctx.step.run("s", exits)
        return "not here"

    stored = await failure(world)
    assert "bye" in stored["message"]
    assert await world.run("fine") == "fine"


async def test_too_long_blank_and_odd_names_are_refused(world: World) -> None:
    @workflow("w", registry=world.registry, max_attempts=1)
    async def w(ctx: Context) -> object:
        refused = []
        for name in ("", " ", "x" * 256, "a\0b", "a\nb", "\ud800", None, 5):
            try:
                await ctx.step.run(name, len, "")  # type: ignore[arg-type]
            except (ValueError, RedflowError) as exc:
                refused.append(type(exc).__name__)
        for name in ("é" * 127, "a:b", "{x}", "s:s", "a b", "@", "-1", "n" * 255):
            await ctx.step.run(name, len, "")
        return refused

    handle = await world.begin()
    assert len(await handle.result()) == 8
    assert [s["name"] for s in await world.client.get_run_steps(handle.id)] == [
        "é" * 127,
        "a:b",
        "{x}",
        "s:s",
        "a b",
        "@",
        "-1",
        "n" * 255,
    ]


async def test_nonretriable_in_a_step_fails_the_run_at_once(world: World) -> None:
    def no() -> None:
        raise NonRetriableError("no")

    @workflow("w", registry=world.registry, retries=NOW)
    async def w(ctx: Context) -> None:
        world.did.append("attempt")
        await ctx.step.run("s", no)

    assert (await failure(world))["kind"] == "non_retriable"
    assert world.did == ["attempt"]

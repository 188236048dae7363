"""What a task waits for: every construct the sleep rule looks through, and those it must not."""

from __future__ import annotations

import asyncio
import threading
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Generator

import pytest

from tests.support.tasks import (
    PASSES,
    Future,
    Task,
    as_coroutine,
    at_rest,
    end_all,
    is_about_to_run,
    rest,
    seen,
    start,
)

Construct = Callable[[Awaitable[object]], Awaitable[object]]
Pair = Callable[[Awaitable[object], Awaitable[object]], Awaitable[None]]


@pytest.fixture
async def wait() -> AsyncIterator[Future]:
    """Stands for an open wait."""
    future: Future = asyncio.get_running_loop().create_future()
    yield future
    await end_all([future])


# -- constructs that are looked through ---------------------------------------------------------------------------


async def plain(below: Awaitable[object]) -> object:
    return await below


async def through_coroutines(below: Awaitable[object]) -> object:
    return await plain(plain(below))


class WithAwait:
    def __init__(self, below: Awaitable[object]) -> None:
        self.below = below

    def __await__(self) -> Generator[object, None, object]:
        return (yield from as_coroutine(self.below).__await__())


async def own_awaitable(below: Awaitable[object]) -> object:
    return await WithAwait(below)


@types.coroutine
def old_style(below: Awaitable[object]) -> Generator[object, None, object]:
    return (yield from as_coroutine(below).__await__())


async def task_of_its_own(below: Awaitable[object]) -> object:
    return await start(below)


async def gathered(below: Awaitable[object]) -> object:
    return await asyncio.gather(below)


async def gathered_with_errors(below: Awaitable[object]) -> object:
    (result,) = await asyncio.gather(below, return_exceptions=True)
    if isinstance(result, BaseException):
        raise result
    return result


async def in_task_group(below: Awaitable[object]) -> object:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(as_coroutine(below))
    return task.result()


async def waited_for_all(below: Awaitable[object]) -> object:
    done, _ = await asyncio.wait([start(below)])
    return done.pop().result()


async def waited_for_first(below: Awaitable[object]) -> object:
    work = start(below)
    never = start(work)
    done, _ = await asyncio.wait({work, never}, return_when=asyncio.FIRST_COMPLETED, timeout=60)
    return done.pop().result()


async def waited_for_error(below: Awaitable[object]) -> object:
    done, _ = await asyncio.wait([start(below)], return_when=asyncio.FIRST_EXCEPTION)
    return done.pop().result()


async def with_timeout(below: Awaitable[object]) -> object:
    async with asyncio.timeout(60):
        return await below


async def waited_for(below: Awaitable[object]) -> object:
    return await asyncio.wait_for(below, 60)


async def waited_for_ever(below: Awaitable[object]) -> object:
    return await asyncio.wait_for(below, None)


async def shielded(below: Awaitable[object]) -> object:
    return await asyncio.shield(below)


async def in_async_generator(below: Awaitable[object]) -> object:
    async def generator() -> AsyncIterator[object]:
        yield await below

    return await anext(generator())


CLEAR: list[Construct] = [
    plain,
    through_coroutines,
    task_of_its_own,
    gathered,
    gathered_with_errors,
    in_task_group,
    waited_for_all,
    waited_for_first,
    waited_for_error,
    with_timeout,
    waited_for,
    waited_for_ever,
    shielded,
]
OPAQUE: list[Construct] = [own_awaitable, old_style, in_async_generator]
"""They don't show the frames of what they await, in which a TaskGroup, asyncio.wait or wait_for may be."""

CONSTRUCTS = CLEAR + OPAQUE
construct = pytest.mark.parametrize("construct", CONSTRUCTS, ids=lambda construct: construct.__name__)


@construct
async def test_the_wait_below_is_the_leaf(construct: Construct, wait: Future) -> None:
    assert seen(await at_rest(construct(wait))) == {wait}


@construct
async def test_constructs_in_each_other(construct: Construct, wait: Future) -> None:
    for other in CLEAR:
        assert seen(await at_rest(other(construct(wait)))) == {wait}, other.__name__


@construct
async def test_what_can_not_be_seen_is_a_leaf(construct: Construct, wait: Future) -> None:
    for other in OPAQUE:
        (leaf,) = seen(await at_rest(other(construct(wait))))
        assert isinstance(leaf, asyncio.Future)


@construct
async def test_an_error_on_its_way_up_is_seen_until_it_arrives(construct: Construct, wait: Future) -> None:
    """Between the end of what was awaited and the waking of the task there are passes of the loop."""
    task = await at_rest(gathered(construct(wait)))
    wait.set_exception(LookupError("failed"))
    while not task.done():
        assert is_about_to_run(task)
        await asyncio.sleep(0)
    error = task.exception()
    if isinstance(error, BaseExceptionGroup):
        (error,) = error.exceptions
    assert isinstance(error, LookupError)


# -- several below ------------------------------------------------------------------------------------------------


async def group_of_two(first: Awaitable[object], second: Awaitable[object]) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(as_coroutine(first))
        group.create_task(as_coroutine(second))


async def wait_of_two(first: Awaitable[object], second: Awaitable[object]) -> None:
    await asyncio.wait([start(first), start(second)])


async def gather_of_two(first: Awaitable[object], second: Awaitable[object]) -> None:
    await asyncio.gather(first, second)


async def nested_gather(first: Awaitable[object], second: Awaitable[object]) -> None:
    await asyncio.gather(gathered(gathered(first)), asyncio.gather(second, second))


async def gather_in_group(first: Awaitable[object], second: Awaitable[object]) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(gather_of_two(first, second))


async def group_in_wait(first: Awaitable[object], second: Awaitable[object]) -> None:
    await wait_of_two(group_of_two(first, second), shielded(first))


PAIRS: list[Pair] = [
    group_of_two,
    wait_of_two,
    gather_of_two,
    nested_gather,
    gather_in_group,
    group_in_wait,
]
pair = pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.__name__)


@pair
async def test_all_leaves_are_found(pair: Pair, wait: Future) -> None:
    other: Future = asyncio.get_running_loop().create_future()
    task = await at_rest(pair(wait, other))
    assert seen(task) == {wait, other}

    other.set_result(None)
    assert is_about_to_run(task)
    await rest(task)
    assert seen(task) == {wait}

    wait.set_result(None)
    await rest(task)
    assert task.done()
    assert seen(task) == set()


@pair
async def test_a_failure_beside_a_wait_is_no_sleep(pair: Pair, wait: Future) -> None:
    other: Future = asyncio.get_running_loop().create_future()
    task = await at_rest(pair(wait, other))
    other.set_exception(LookupError("failed"))
    await rest(task)
    if pair is wait_of_two:
        assert seen(task) == {wait}  # it waits for all
    else:
        assert task.done()
        assert task.exception() is not None or pair is group_in_wait


async def test_the_first_of_two_wakes_the_task(wait: Future) -> None:
    other: Future = asyncio.get_running_loop().create_future()
    task = await at_rest(asyncio.wait({wait, other}, return_when=asyncio.FIRST_COMPLETED))
    assert seen(task) == {wait, other}
    other.set_result(None)
    assert is_about_to_run(task)
    await rest(task)
    assert task.done()


async def test_futures_that_were_done_before_gather(wait: Future) -> None:
    done: Future = asyncio.get_running_loop().create_future()
    done.set_result(None)
    assert seen(await at_rest(gather_of_two(done, wait))) == {wait}
    assert seen(await at_rest(asyncio.gather(done, wait, done, wait))) == {wait}


# -- what is no wait ----------------------------------------------------------------------------------------------


async def a_lock() -> None:
    lock = asyncio.Lock()
    await lock.acquire()
    await lock.acquire()


async def a_queue() -> None:
    await asyncio.Queue[None]().get()


async def an_event() -> None:
    await asyncio.Event().wait()


async def a_condition() -> None:
    condition = asyncio.Condition()
    async with condition:
        await condition.wait()


async def a_sleep() -> None:
    await asyncio.sleep(60)


@pytest.mark.parametrize("other", [a_lock, a_queue, an_event, a_condition, a_sleep], ids=lambda other: other.__name__)
@pair
async def test_something_that_is_no_wait_is_a_leaf(
    pair: Pair,
    other: Callable[[], Awaitable[None]],
    wait: Future,
) -> None:
    task = await at_rest(pair(wait, start(other())))
    found = seen(task)
    assert wait in found
    assert len(found) == 2
    task.cancel()
    await asyncio.wait({task})


async def test_a_thread_is_a_leaf(wait: Future) -> None:
    release = threading.Event()
    task = await at_rest(gather_of_two(wait, asyncio.to_thread(release.wait)))
    assert len(seen(task)) == 2
    release.set()


async def test_as_completed_is_a_leaf_of_its_own(wait: Future) -> None:
    async def main() -> None:
        for earliest in asyncio.as_completed([wait]):
            await earliest

    task = await at_rest(main())
    (leaf,) = seen(task)
    assert leaf is not wait
    wait.set_result(None)
    await asyncio.wait({task})
    assert task.exception() is None


async def test_tasks_that_are_not_awaited_are_not_looked_at(wait: Future) -> None:
    background: list[Task] = []

    async def main() -> None:
        background.append(start(a_sleep()))
        await wait

    task = await at_rest(main())
    await rest(background[0])
    assert seen(task) == {wait}
    assert not background[0].done()


async def test_a_group_whose_body_still_runs_is_not_looked_at(wait: Future) -> None:
    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(a_sleep())
            await wait

    task = await at_rest(main())
    assert seen(task) == {wait}
    wait.set_result(None)
    await rest(task)
    (leaf,) = seen(task)
    assert leaf is not wait
    task.cancel()
    await asyncio.wait({task})


async def test_a_task_that_was_not_started_is_about_to_run(wait: Future) -> None:
    task = start(wait)
    assert is_about_to_run(task)
    await rest(task)
    assert seen(task) == {wait}


async def test_a_task_between_two_passes_is_about_to_run() -> None:
    async def busy() -> None:
        for _ in range(PASSES):
            await asyncio.sleep(0)

    task = start(busy())
    for _ in range(3):
        await asyncio.sleep(0)
        assert is_about_to_run(task)
    task.cancel()

"""`step.map`: one step for each item, a bounded number of them at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from redflow.errors import NonRetriableError

Item = TypeVar("Item")
T = TypeVar("T")


async def map_steps(
    run_one: Callable[[str, Item], Awaitable[T]], name: str, items: Iterable[Item], concurrency: int
) -> list[T]:
    """The results of one step for each item, in the order of the items.

    After a failure no further step begins; those under way end, so that what they did is remembered, and the error of
    the first item that failed is raised.

    Args:
        run_one: runs one step, given its name and item.
        name: of all of them; an item's step is `name[index]`.
        items: for each a step.
        concurrency: how many steps are under way at a time.

    Raises:
        NonRetriableError: concurrency is no whole number of at least 1.
    """
    if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
        raise NonRetriableError(f"step {name!r}: concurrency must be a whole number of at least 1, got {concurrency!r}")
    numbered = list(enumerate(items))
    results: dict[int, T] = {}
    failures: dict[int, BaseException] = {}
    waiting = iter(numbered)

    async def work() -> None:
        for index, item in waiting:
            try:
                results[index] = await run_one(f"{name}[{index}]", item)
            except asyncio.CancelledError:
                raise
            except BaseException as exc:
                failures[index] = exc
            if failures:
                return

    await asyncio.gather(*[work() for _ in range(min(concurrency, len(numbered)))])
    if failures:
        raise failures[min(failures)]
    return [results[index] for index, _ in numbered]

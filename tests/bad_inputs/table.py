"""What a row of the tables is, and how one is judged.

E rows are refused at the call: error class, what the message says, nothing written, at once.
R rows are accepted, and their run fails cleanly: what its error says, and the worker goes on.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.support.world import Context, World

QUICK_S = 0.1
_TRIES = 5
"""A slow machine may take long once; what is slow by itself is so each time."""


@dataclass(frozen=True)
class Refused:
    """A call that is refused.

    Attributes:
        name: of the row.
        call: makes it; may return an awaitable.
        error: the class.
        says: texts that the message holds, all of them.
        hides: texts that it does not.
    """

    name: str
    call: Callable[[World], Any]
    error: type[BaseException] | tuple[type[BaseException], ...]
    says: tuple[str, ...] = ()
    hides: tuple[str, ...] = ()
    quick: bool = True


@dataclass(frozen=True)
class Fails:
    """A run that fails.

    Attributes:
        name: of the row.
        handler: `async def`, what it does.
        kind: of the stored error.
        says: texts that its message holds.
        options: further keywords of define_workflow.
        input: of the run.
    """

    name: str
    handler: Callable[[Context], Any]
    kind: str = "error"
    says: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    input: object = None


async def snapshot(world: World) -> dict[bytes, bytes]:
    """Every key of the world with its content."""
    keys = [key async for key in world.redis.scan_iter(match=f"{world.prefix}*", count=1000)]
    return {key: await world.redis.dump(key) for key in keys}


async def _made(row: Refused, world: World) -> object:
    answer = row.call(world)
    return await answer if inspect.isawaitable(answer) else answer


async def judge_refusal(world: World, row: Refused) -> None:
    """The row's call raises what it should, each time, and changes nothing."""
    before = await snapshot(world)
    shortest = float("inf")
    for _ in range(_TRIES):
        started = time.monotonic()
        with pytest.raises(row.error) as caught:
            await _made(row, world)
        shortest = min(shortest, time.monotonic() - started)
        message = str(caught.value)
        assert len(message) < 1500, "a message is for reading"
        assert not [text for text in row.says if text not in message], message
        assert not [text for text in row.hides if text in message], message
        if not row.quick or shortest <= QUICK_S:
            break
    assert not row.quick or shortest <= QUICK_S
    assert await snapshot(world) == before

"""The checks of conftest.py see what they are there to see."""

from __future__ import annotations

import asyncio
import gc

import pytest

import tests.conftest as shared


async def test_forgotten_task_errors_are_collected() -> None:
    async def fail() -> None:
        raise ValueError("nobody asks")

    task = asyncio.create_task(fail())
    await asyncio.wait([task])
    del task
    gc.collect()
    (message,) = shared._forgotten.messages
    shared._forgotten.messages.clear()  # else this test would fail, which is the point
    assert "never retrieved" in message
    assert "nobody asks" in message


def test_prefixes_differ_and_name_the_test(prefix: str, request: pytest.FixtureRequest) -> None:
    assert prefix.startswith("test-prefixes-differ-and-name-the-test-")
    assert not set(prefix) & set("{}*?[]\\")

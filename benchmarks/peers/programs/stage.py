"""What every Python program of a peer shares: the orders that a client obeys, and how a program is started.

A program is started as `python -m benchmarks.peers.programs.NAME ROLE CONFIG`. As `worker` it works until SIGTERM; most
give way to the peer's own command. As `client` it obeys orders, one line of JSON each, and answers each by one line.
bullmq.js speaks the same. Standard library only.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypedDict

from benchmarks.peers.programs.work import Config, Kind, Payload, config, expected_output, expected_steps, payload

_LOOK_EVERY_S = 0.02
_READ_AT_A_TIME = 100


class Client:
    """One peer's client. Ids are whatever the peer knows a run or job by.

    Attributes:
        at_a_time: how many single emits are under way at once; 1 for libraries without asyncio.
        bulk: how many go into one bulk emit; 0 if the peer has none.
        durable: whether there are step records to read back.
        look_every_s: how often `ended` may be asked; long where it is dear.
    """

    at_a_time: ClassVar[int] = 100
    bulk: ClassVar[int] = 0
    durable: ClassVar[bool] = False
    look_every_s: ClassVar[float] = _LOOK_EVERY_S

    def __init__(self, settings: Config) -> None:
        self.settings = settings

    async def open(self) -> None:
        """Connect, and register what has to be registered."""

    async def close(self) -> None:
        """Leave nothing open."""

    async def start(self, kind: Kind, data: Payload) -> Any:
        """Start one run; its id."""
        raise NotImplementedError

    async def start_many(self, kind: Kind, datas: Sequence[Payload]) -> Sequence[Any]:
        """Start many in the peer's own bulk form; their ids."""
        raise NotImplementedError

    async def ended(self, started: int) -> int:
        """How many of the `started` have ended, by the peer's own books."""
        raise NotImplementedError

    async def stored_output(self, run: Any) -> object:
        """What is stored as the output of an ended run; raises if it did not succeed."""
        raise NotImplementedError

    async def stored_steps(self, run: Any) -> list[object]:
        """The outputs of its recorded steps, in order."""
        raise NotImplementedError

    async def result(self, run: Any) -> object:
        """Wait for the output in the way that the peer offers to its users."""
        raise NotImplementedError

    async def trigger(self, data: Payload) -> tuple[Any, object]:
        """Start one `one` and wait for it; its id and its output."""
        run = await self.start("one", data)
        return run, await self.result(run)

    async def fan_out(self, datas: Sequence[Payload]) -> Sequence[object]:
        """A hundred children of one run (a queue: a hundred jobs), all awaited; their outputs."""
        runs = await self.start_all("one", datas)
        return await asyncio.gather(*[self.result(run) for run in runs])

    async def start_all(self, kind: Kind, datas: Sequence[Payload]) -> Sequence[Any]:
        """Start many in the fastest way that the peer has."""
        if self.bulk:
            return await self.start_many(kind, datas)
        return await asyncio.gather(*[self.start(kind, data) for data in datas])


class Enqueue(TypedDict):
    """An order to start runs."""

    kind: Kind
    n: int
    how: str
    pad: int


class Orders:
    """Obeys the orders of the benchmark with a peer's client."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._started: list[tuple[Kind, int, int, Any]] = []

    async def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        """One order's answer."""
        name = order.pop("do")
        answer: dict[str, Any] = await getattr(self, f"_{name}")(**order)
        return answer

    async def _about(self) -> dict[str, Any]:
        return {"bulk": self._client.bulk, "at_a_time": self._client.at_a_time, "durable": self._client.durable}

    async def _enqueue(self, kind: Kind, n: int, how: str, pad: int = 0) -> dict[str, Any]:
        began, clock = time.time(), time.perf_counter()
        runs = await (self._bulk(kind, n, pad) if how == "bulk" else self._single(kind, n, pad))
        seconds = time.perf_counter() - clock
        self._started += [(kind, number, pad, run) for number, run in enumerate(runs)]
        return {"began": began, "seconds": seconds}

    async def _single(self, kind: Kind, n: int, pad: int) -> list[Any]:
        runs: list[Any] = [None] * n
        numbers = iter(range(n))

        async def emitter() -> None:
            for number in numbers:
                runs[number] = await self._client.start(kind, payload(number, pad))

        await asyncio.gather(*[emitter() for _ in range(min(self._client.at_a_time, n))])
        return runs

    async def _bulk(self, kind: Kind, n: int, pad: int) -> list[Any]:
        runs: list[Any] = []
        for first in range(0, n, self._client.bulk):
            numbers = range(first, min(first + self._client.bulk, n))
            runs += await self._client.start_many(kind, [payload(number, pad) for number in numbers])
        return runs

    async def _wait(self, within_s: float) -> dict[str, Any]:
        """Until all have ended; fails when there is no progress for so long."""
        ended, progress = -1, time.monotonic()
        while True:
            now_ended = await self._client.ended(len(self._started))
            if now_ended >= len(self._started):
                return {"at": time.time()}
            if now_ended > ended:
                ended, progress = now_ended, time.monotonic()
            elif time.monotonic() - progress > within_s:
                raise TimeoutError(f"{len(self._started)} were started, {now_ended} have ended, none in {within_s:g} s")
            await asyncio.sleep(self._client.look_every_s)

    async def _check(self) -> dict[str, Any]:
        """Read back every output, and of durable engines every step; what is wrong first, or nothing."""
        for first in range(0, len(self._started), _READ_AT_A_TIME):
            chunk = self._started[first : first + _READ_AT_A_TIME]
            for wrong in await asyncio.gather(*[self._check_one(*started) for started in chunk]):
                if wrong:
                    return {"wrong": wrong}
        return {"wrong": "", "checked": len(self._started)}

    async def _check_one(self, kind: Kind, number: int, pad: int, run: Any) -> str:
        output = await self._client.stored_output(run)
        if output != expected_output(kind, number, pad):
            return f"{kind} number {number} gave {output!r}"
        if self._client.durable:
            steps = await self._client.stored_steps(run)
            if steps != expected_steps(kind, number, pad):
                return f"the steps of {kind} number {number} are {steps!r}"
        return ""

    async def _latency(self, n: int) -> dict[str, Any]:
        times = []
        for number in range(n):
            began = time.perf_counter()
            run, output = await self._client.trigger(payload(number))
            times.append((time.perf_counter() - began) * 1000)
            self._started.append(("one", number, 0, run))
            if output != expected_output("one", number):
                raise ValueError(f"number {number} gave {output!r}")
        return {"ms": times}

    async def _children(self, n: int, times: int) -> dict[str, Any]:
        found = []
        datas = [payload(number) for number in range(n)]
        wanted = [expected_output("one", number) for number in range(n)]
        for _ in range(times):
            began = time.perf_counter()
            outputs = list(await self._client.fan_out(datas))
            found.append((time.perf_counter() - began) * 1000)
            if outputs != wanted:
                raise ValueError(f"the children gave {outputs!r}")
        return {"ms": found}


async def _obey_all(client: Client) -> None:
    loop = asyncio.get_running_loop()
    orders = Orders(client)
    await client.open()
    try:
        _say({"ready": True})
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            try:
                answer = await orders.obey(json.loads(line))
            except Exception as exc:  # the benchmark says which measurement it was
                answer = {"error": f"{type(exc).__name__}: {exc}"}
            _say(answer)
    finally:
        with contextlib.suppress(Exception):  # the figures are out; a peer's clumsy end is not their matter
            await client.close()


_ANSWERS = sys.stdout


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), file=_ANSWERS, flush=True)


def new_loop(name: str = "uvloop") -> Callable[[], asyncio.AbstractEventLoop] | None:
    """A loop factory; uvloop where it is asked for and installed, else asyncio's."""
    if name != "uvloop":
        return None
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def main(client: Callable[[Config], Client], worker: Callable[[Config], None]) -> None:
    """Run a program in the role that it was started in."""
    global _ANSWERS
    settings = config()
    # Answers have the first stdout for themselves: what a library prints goes to stderr.
    _ANSWERS = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    if sys.argv[1] == "worker":
        worker(settings)
        return
    with asyncio.Runner(loop_factory=new_loop(settings.loop)) as runner:
        runner.run(_obey_all(client(settings)))


async def count_results(redis: Any, prefix: str, started: int) -> int:
    """How many results there are, for those who keep no count: exact when all may be there, else roughly.

    Args:
        redis: an asyncio client.
        prefix: of the keys of results.
        started: how many are wanted.
    """
    keys = int(await redis.dbsize())
    if keys < started:
        return keys
    found = 0
    async for _ in redis.scan_iter(match=f"{prefix}*", count=10_000):
        found += 1
    return found


def give_way(*command: str) -> None:
    """Become the peer's own worker command, a program of this environment."""
    os.execv(sys.executable, [sys.executable, "-P", "-m", *command])

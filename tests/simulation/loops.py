"""Processes on a virtual clock. Each has event loops of its own; the world turns one of them at a time.

Within a process callbacks run in the order in which asyncio promises them. Which process goes next, how long each
message travels and what breaks is drawn from one seed, so a seed is a history. The clock moves only when no process
has anything left to do: to the next message or the next timer. A turn of a loop takes a µs.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import math
import random
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any, Final, TypeVar

T = TypeVar("T")

T0_MS: Final = 1_700_000_000_000
"""What the clock of the server says when a simulation begins, epoch ms."""

_TURNS: Final = 20_000
"""So many turns of loops while no time passes are an endless loop."""


class Stuck(Exception):
    """Nothing is left to happen, and what was waited for has not."""


class Process:
    """One simulated process: it has its own loops, its own wrong clock, and ends or freezes as a whole.

    Args:
        world: where it lives.
        name: for people who read a trace.
        skew_ms: how far its wall clock is off, ms.
    """

    def __init__(self, world: World, name: str, skew_ms: int) -> None:
        self.world = world
        self.name = name
        self.skew_ms = skew_ms
        self.alive = True
        self.frozen = False
        self.loops: list[NodeLoop] = []
        self.on_death: list[Callable[[], None]] = []
        self.main = self.new_loop()

    def new_loop(self) -> NodeLoop:
        """A further loop: what is a thread of its own in a real process."""
        loop = NodeLoop(self)
        self.loops.append(loop)
        return loop

    @property
    def turns(self) -> bool:
        """Whether it gets the processor."""
        return self.alive and not self.frozen

    def kill(self) -> None:
        """It is gone between two callbacks: nothing of it ever runs again, no clean-up either."""
        self.alive = False
        for tell in self.on_death:
            tell()


class NodeLoop(asyncio.BaseEventLoop):
    """The event loop of a process, or of one of its threads. It never runs by itself: see `World.run`."""

    def __init__(self, process: Process) -> None:
        super().__init__()
        self.process = process
        self.line: deque[asyncio.Handle] = deque()
        self.timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self._world = process.world

    def create_task(self, coro: Coroutine[Any, Any, T] | Generator[Any, None, T], **options: Any) -> asyncio.Task[T]:
        task = super().create_task(coro, **options)
        self.tasks.append(task)
        return task

    def time(self) -> float:
        return self._world.now_us / 1e6

    def call_soon(
        self, callback: Callable[..., object], *args: object, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self.line.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: object, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: object, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self.timers, (when, self._world.next_number(), timer))
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self._world.complaints.append(f"{self.process.name}: {context.get('message')}: {context.get('exception')!r}")

    def turn(self) -> None:
        """Run what is ready now; what that makes ready comes with the next turn."""
        asyncio._set_running_loop(self)
        try:
            line = self.line
            for _ in range(len(line)):
                handle = line.popleft()
                if not handle.cancelled():
                    handle._run()
        finally:
            asyncio._set_running_loop(None)

    def next_timer_us(self) -> int | None:
        """When the next timer is due, µs."""
        while self.timers and self.timers[0][2].cancelled():
            heapq.heappop(self.timers)
        return _us(self.timers[0][0]) if self.timers else None

    def take_due(self) -> None:
        """Timers whose time has come are ready."""
        while self.timers and _us(self.timers[0][0]) <= self._world.now_us:
            timer = heapq.heappop(self.timers)[2]
            if not timer.cancelled():
                self.line.append(timer)


class World:
    """The scheduler: the one source of chance and of time.

    Args:
        seed: of all chance.

    Attributes:
        rng: draws what happens.
        now_us: the time since the beginning, µs.
        complaints: errors that nobody looked at.
    """

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.now_us = 0
        self.processes: list[Process] = []
        self.complaints: list[str] = []
        self.current: Process | None = None
        self._number = 0
        self._coming: list[tuple[int, int, Callable[[], None]]] = []

    @property
    def now_ms(self) -> int:
        """What the clock of the server says, epoch ms."""
        return T0_MS + self.now_us // 1000

    def next_number(self) -> int:
        """Numbers that tell which of two things of one instant came first."""
        self._number += 1
        return self._number

    def at(self, at_us: int, call: Callable[[], None]) -> None:
        """Let something happen at a time, µs."""
        heapq.heappush(self._coming, (at_us, self.next_number(), call))

    def later(self, delay_us: int, call: Callable[[], None]) -> None:
        """Let something happen after a time, µs."""
        self.at(self.now_us + delay_us, call)

    def new_process(self, name: str, skew_ms: int = 0) -> Process:
        """A process that has nothing to do yet."""
        process = Process(self, name, skew_ms)
        self.processes.append(process)
        return process

    def run(self, until: Callable[[], bool], latest_us: int) -> None:
        """Let the world go on until a condition holds, which is looked at whenever time passes.

        Raises:
            Stuck: it doesn't by then.
        """
        turns = 0
        while True:
            loops = [loop for process in self.processes if process.turns for loop in process.loops if loop.line]
            if loops:
                loop = loops[0] if len(loops) == 1 else loops[self.rng.randrange(len(loops))]
                self.current = loop.process
                loop.turn()
                self.current = None
                self.now_us += 1
                turns += 1
                if turns > _TURNS:
                    raise Stuck(f"{loop.process.name} turns and turns at {self.now_us / 1e6:.3f} s")
                self._let_come()
                continue
            if until():
                return
            turns = 0
            self._pass_time(latest_us)

    def _pass_time(self, latest_us: int) -> None:
        live = [loop for process in self.processes if process.turns for loop in process.loops]
        times = [at for loop in live if (at := loop.next_timer_us()) is not None]
        if self._coming:
            times.append(self._coming[0][0])
        if not times or min(times) > latest_us:
            raise Stuck(f"{'nothing is left to happen' if not times else 'not in time'} at {self.now_us / 1e6:.3f} s")
        self.now_us = max(self.now_us, min(times))
        self._let_come()
        for loop in live:
            if loop.process.turns:
                loop.take_due()

    def _let_come(self) -> None:
        while self._coming and self._coming[0][0] <= self.now_us:
            heapq.heappop(self._coming)[2]()

    def end(self) -> None:
        """Drop everything: nothing of this world ever runs again."""
        for process in self.processes:
            process.alive = False
            for loop in process.loops:
                for task in loop.tasks:
                    task._log_destroy_pending = False  # type: ignore[attr-defined]
                    _drop(task)
                loop.tasks.clear()
                loop.line.clear()
                loop.timers.clear()
                loop.close()
        self._coming.clear()


def _us(when: float) -> int:
    """The first µs at which a timer of this time (seconds) is due."""
    return math.ceil(when * 1e6)


def _drop(task: asyncio.Task[Any]) -> None:
    """End the coroutine of a task that never goes on, however hard it tries to clean up."""
    coroutine = task.get_coro()
    for _ in range(8):
        with contextlib.suppress(BaseException):
            coroutine.close()
            return

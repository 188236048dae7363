"""Daemon threads for plain functions.

Threads of the standard pool are joined at interpreter exit, so that one hung step would hang the process. These
are not. A function that doesn't end in time keeps its place, is counted as stuck, and its result is dropped.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from queue import SimpleQueue


class ThreadPool:
    """Runs plain functions in up to `size` daemon threads.

    Args:
        size: how many functions may run at the same time; more wait for a place.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._busy = 0
        self.stuck = 0
        """Functions that were given up by their step but still run."""
        self._handlers: ThreadPool | None = None

    @property
    def handlers(self) -> ThreadPool:
        """A pool of the same size for handlers: they wait for steps, which must not wait for their places."""
        if self._handlers is None:
            self._handlers = ThreadPool(self.size)
        return self._handlers

    @property
    def exhausted(self) -> bool:
        """Whether every place, for steps or for handlers, is taken by a function that was given up."""
        return self.stuck >= self.size or (self._handlers is not None and self._handlers.exhausted)

    @property
    def busy(self) -> bool:
        """Whether a function runs or waits for a place, of a step or a handler."""
        return self._busy > 0 or (self._handlers is not None and self._handlers.busy)

    def submit(self, function: Callable[[], object]) -> asyncio.Future[object]:
        """Run a function in a thread, with a copy of the caller's context variables.

        Returns:
            A future of its result. Cancelling it doesn't stop a function that has begun: it counts as stuck until
            it ends. One that still waits for a place isn't called any more.

        Raises:
            RuntimeError: the system gives no thread, and there is none yet.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[object] = loop.create_future()
        context = contextvars.copy_context()
        abandoned = False
        began = False
        ended = False

        def deliver(result: object, error: BaseException | None) -> None:
            nonlocal ended
            ended = True
            if abandoned:
                self.stuck -= 1
            elif future.cancelled():
                pass  # in this very pass of the loop
            elif error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)

        def on_done(done: asyncio.Future[object]) -> None:
            nonlocal abandoned
            with self._lock:
                if done.cancelled() and not ended:
                    abandoned = True
                    self.stuck += began

        def work() -> None:
            nonlocal began
            with self._lock:
                if abandoned:
                    return
                began = True
            result: object = None
            error: BaseException | None = None
            try:
                result = context.run(function)
            except (StopIteration, GeneratorExit) as exc:  # thrown into a coroutine they would end it, not reach it
                error = RuntimeError(f"a step function raised {type(exc).__name__}")
                error.__cause__ = exc
            except BaseException as exc:
                error = exc
            if not loop.is_closed():
                loop.call_soon_threadsafe(deliver, result, error)

        future.add_done_callback(on_done)
        with self._lock:
            self._busy += 1
            spawn = self._busy > self._threads and self._threads < self.size
            if spawn:
                self._threads += 1
        if spawn:
            self._spawn()
        self._work.put(work)
        return future

    def close(self) -> None:
        """Let the threads end once they have done what was submitted. Nothing may be submitted after."""
        with self._lock:
            threads, self._threads = self._threads, 0
        for _ in range(threads):
            self._work.put(None)
        if self._handlers is not None:
            self._handlers.close()

    def _spawn(self) -> None:
        try:
            threading.Thread(target=self._serve, name="redflow-step", daemon=True).start()
        except RuntimeError:
            with self._lock:
                self._threads -= 1
                if self._threads > 0:
                    return  # the work waits for one of them
                self._busy -= 1
            raise

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            try:
                work()
            except RuntimeError:
                # The event loop closed between the check and the call: nobody waits for the result any more.
                pass
            finally:
                with self._lock:
                    self._busy -= 1


async def result_of(future: asyncio.Future[object], unwind_s: float) -> object:
    """What a function in a thread returns.

    A thread can't be cancelled: once this call is, the function has `unwind_s` seconds to end, then it is given up.
    """
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        if not future.done():
            await asyncio.wait({future}, timeout=unwind_s)
        if future.done() and not future.cancelled():
            future.exception()
        else:
            future.cancel()
        raise

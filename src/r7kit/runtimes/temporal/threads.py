"""Threads for plain activity functions."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class DaemonThreads(ThreadPoolExecutor):
    """A pool whose threads die with the process.

    The standard pool's are joined at the interpreter's end, so that one function that hangs would hang the process.
    Temporal wants this very class, or it takes the pool for one of processes.

    Args:
        size: how many functions may run at a time; more wait for a place.
    """

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._size = size
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._guard = threading.Lock()
        self._alive = 0
        self._idle = 0
        self._closed = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run a function in a thread.

        Raises:
            RuntimeError: the pool is shut down.
        """
        future: Future[T] = Future()

        def call() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        with self._guard:
            if self._closed:
                raise RuntimeError("the pool is shut down")
            if self._idle:
                self._idle -= 1
            elif self._alive < self._size:
                self._alive += 1
                threading.Thread(target=self._serve, name="r7kit-activity", daemon=True).start()
        self._calls.put(call)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more functions; what runs is never waited for."""
        with self._guard:
            self._closed = True
            for _ in range(self._alive):
                self._calls.put(None)
        super().shutdown(wait=False)

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
            with self._guard:
                # One that waits for a place was put without a thread being promised to it.
                if self._calls.empty():
                    self._idle += 1

"""What handlers see of the engine: step methods, the cancel signal, handles and workflows as types."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeAlias, TypeVar, overload

from redflow._records import ReceivedEvent, RunState

InputT = TypeVar("InputT")
OutputT = TypeVar("OutputT")
Item = TypeVar("Item")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
In_contra = TypeVar("In_contra", contravariant=True)

StepWaitForTarget: TypeAlias = int | float | str | datetime
"""How long, or until when, to wait: milliseconds, a duration text such as "1.5h", or a datetime."""

StepOutput: TypeAlias = Any  # reason: a workflow given by name only has no output type; spec: result() -> Any


class RunHandle(Protocol[T_co]):
    """A run that was started: its id, its state, and its result to wait for."""

    @property
    def id(self) -> str:
        """The run's id."""

    async def get_state(self) -> RunState | None:
        """The run as it is now; None if there is no such run (any more)."""

    async def result(self, *, timeout_ms: float = 30_000) -> T_co:
        """Wait for the run to end and return its output.

        Raises:
            RedflowError: the run failed; `error` holds what is stored of its error.
            CanceledError: the run was canceled.
            TimeoutError: it has not ended within `timeout_ms`; the run goes on.
        """


class WorkflowLike(Protocol[In_contra, T_co]):
    """A workflow definition as far as starting runs of it goes."""

    @property
    def name(self) -> str:
        """The workflow's name."""

    async def run(self, input: In_contra | Mapping[str, object]) -> RunHandle[T_co]:
        """Start a run."""


AnyWorkflowLike: TypeAlias = str | WorkflowLike[Any, Any]  # reason: which types are passed on does not matter here


class CancelSignal(asyncio.Event):
    """The event that tells a handler or step that it is canceled or out of time.

    An asyncio.Event that threads may use too: `is_set()` is safe there, and `wait_blocking` waits without a
    loop.
    """

    _making = threading.Lock()

    def __init__(self) -> None:
        super().__init__()
        # Made when a thread first waits: most runs never need it, and it costs as much as all the rest.
        self._thread_event: threading.Event | None = None

    def set(self) -> None:
        """Set it, waking tasks and threads that wait. Call it from the event loop's thread."""
        super().set()
        # In this order, and wait_blocking in the other: one of the two sees what the other did.
        if self._thread_event is not None:
            self._thread_event.set()

    def clear(self) -> None:
        """Make waits wait again. Call it from the event loop's thread."""
        super().clear()
        if self._thread_event is not None:
            self._thread_event.clear()

    def wait_blocking(self, timeout_s: float | None = None) -> bool:
        """Wait in a thread until it is set.

        Args:
            timeout_s: the longest to wait, in seconds; None waits for ever.

        Returns:
            Whether it is set.
        """
        with self._making:
            if self._thread_event is None:
                self._thread_event = threading.Event()
        if self.is_set():
            return True
        return self._thread_event.wait(timeout_s)


@dataclass(frozen=True, slots=True)
class StepRetry:
    """How a step is tried again in place, within its attempt: `step.run(name, fn, retry=StepRetry(max_attempts=3))`.

    The run keeps its slot meanwhile. A try that fails is followed by another as long as its error is of a kind that is
    retried; only the last one's error reaches the handler. `timeout_ms` of the step limits each try. A worker that dies
    meanwhile, or another attempt of the run, begins anew with the first try.

    Attributes:
        max_attempts: tries, the first included, at least 1.
        delay: pause before the next try: milliseconds, a duration text or a datetime; None is 250 ms, doubled with each
            try up to 30 s, plus up to 99 ms. A RetryAfterError beats it.

    Raises:
        ValueError: max_attempts is no whole number of at least 1.
    """

    max_attempts: int
    delay: StepWaitForTarget | None = None

    def __post_init__(self) -> None:
        """Judge max_attempts; the delay is judged by the step."""
        if isinstance(self.max_attempts, bool) or not isinstance(self.max_attempts, int) or self.max_attempts < 1:
            raise ValueError(f"StepRetry.max_attempts must be a whole number of at least 1, got {self.max_attempts!r}")


class StepApi(Protocol):
    """The durable steps of a run: `ctx.step` in an `async def` handler.

    The handler runs again from its first line on every start, retry and resume; a step that succeeded
    returns its stored value without calling anything. Names are unique within a run. Steps and waits may run
    side by side (asyncio.gather, TaskGroup). Every method raises CanceledError once the run is to be
    canceled, and RedflowError on a name used before in the same pass. Values pass through JSON: tuples come
    back as lists.
    """

    @overload
    async def run(
        self,
        name: str,
        fn: Callable[..., Awaitable[T]],
        /,
        *args: object,
        timeout_ms: float | None = None,
        **kwargs: object,
    ) -> T: ...

    @overload
    async def run(
        self,
        name: str,
        fn: Callable[..., T],
        /,
        *args: object,
        timeout_ms: float | None = None,
        **kwargs: object,
    ) -> T: ...

    async def run(
        self,
        name: str,
        fn: Callable[..., object],
        /,
        *args: object,
        timeout_ms: float | None = None,
        **kwargs: object,
    ) -> object:
        """Call a function once and keep its result.

        Args:
            name: the step's name.
            fn: an async function, a callable that returns an awaitable, or a plain function, which runs in a
                thread. If it takes `signal` (or any keyword) and none is given, it gets a CancelSignal.
            args: passed to `fn`.
            timeout_ms: the longest it may take, in milliseconds; more than 0; None is no limit.
            kwargs: passed to `fn`, but for `retry`, if that is a StepRetry: then the step is tried again in place,
                without ending the attempt.

        Returns:
            What `fn` returned, after a round trip through JSON.

        Raises:
            TimeoutError: it took longer than `timeout_ms`, or raised a builtin TimeoutError. Retried.
            OutputSerializationError: its result is not JSON. Not retried.
            StepTypeError: the stored value does not fit the type `fn` promises (any more). Retried.

        Example:
            >>> receipt = await ctx.step.run("charge", charge_card, order_id, timeout_ms=10_000)
        """

    @overload
    async def map(
        self,
        name: str,
        fn: Callable[[Item], Awaitable[T]],
        items: Iterable[Item],
        /,
        *,
        concurrency: int = 10,
        timeout_ms: float | None = None,
        retry: StepRetry | None = None,
    ) -> list[T]: ...

    @overload
    async def map(
        self,
        name: str,
        fn: Callable[[Item], T],
        items: Iterable[Item],
        /,
        *,
        concurrency: int = 10,
        timeout_ms: float | None = None,
        retry: StepRetry | None = None,
    ) -> list[T]: ...

    async def map(
        self,
        name: str,
        fn: Callable[[Item], Awaitable[T]] | Callable[[Item], T],
        items: Iterable[Item],
        /,
        *,
        concurrency: int = 10,
        timeout_ms: float | None = None,
        retry: StepRetry | None = None,
    ) -> list[T]:
        """Call a function for each item and keep each result: one durable step an item, `name[0]`, `name[1]` ...

        After a failure no further step begins; those under way end and are remembered, and the error of the first item
        that failed is raised. The next attempt calls the function for the rest only. An item is known by its place:
        give the items in the same order each time.

        Args:
            name: of all the steps.
            fn: takes one item; see `run`.
            items: JSON or not, they are not stored.
            concurrency: how many steps are under way at a time.
            timeout_ms: of each step, see `run`.
            retry: of each step, see `run`.

        Returns:
            The results, in the order of the items.

        Example:
            >>> pages = await ctx.step.map("fetch", fetch, urls, concurrency=5)
        """

    async def wait_for(self, name: str, target: StepWaitForTarget, *, timeout_ms: float | None = None) -> None:
        """Sleep durably: the run leaves the worker and comes back when the time has come.

        Args:
            name: the step's name.
            target: how long or until when; fixed when the step first runs. A past time passes at once.
            timeout_ms: if shorter than the wait, the step fails at that time, in milliseconds.

        Raises:
            RedflowError: `target` is no such time.
            TimeoutError: `timeout_ms` came first. Retried.
        """

    async def wait_for_event(
        self, name: str, event_name: str, correlation_key: str, timeout: StepWaitForTarget
    ) -> ReceivedEvent | None:
        """Sleep durably until an event comes, or until it is too late.

        Args:
            name: the step's name.
            event_name: the event's name.
            correlation_key: which of these events; it must be emitted with the same key.
            timeout: how long or until when; fixed when the step first runs.

        Returns:
            The event, or None when the time was up first. An event emitted since the run was created counts.

        Raises:
            ValueError: a blank event name or key.
            RedflowError: `timeout` is no such time, or the same step waited for something else before.
        """

    @overload
    async def run_workflow(
        self,
        name: str,
        workflow: WorkflowLike[InputT, OutputT],
        input: InputT | Mapping[str, object],
        *,
        timeout_ms: float | None = None,
        run_at: datetime | None = None,
        queue_override: str | None = None,
        priority: int | None = None,
        run_timeout_ms: float | str | None = None,
        idempotency_key: str | None = None,
        idempotency_ttl: int | None = None,
    ) -> OutputT: ...

    @overload
    async def run_workflow(
        self,
        name: str,
        workflow: str,
        input: object,
        *,
        timeout_ms: float | None = None,
        run_at: datetime | None = None,
        queue_override: str | None = None,
        priority: int | None = None,
        run_timeout_ms: float | str | None = None,
        idempotency_key: str | None = None,
        idempotency_ttl: int | None = None,
    ) -> StepOutput: ...

    async def run_workflow(
        self,
        name: str,
        workflow: str | WorkflowLike[InputT, OutputT],
        input: object,
        *,
        timeout_ms: float | None = None,
        run_at: datetime | None = None,
        queue_override: str | None = None,
        priority: int | None = None,
        run_timeout_ms: float | str | None = None,
        idempotency_key: str | None = None,
        idempotency_ttl: int | None = None,
    ) -> object:
        """Run another workflow and wait for its output, asleep, holding no slot.

        Args:
            name: the step's name.
            workflow: its name or its definition; a definition also checks the input and gives queue and
                attempts.
            input: its input.
            timeout_ms: the longest to wait, in milliseconds; then the child is canceled.
            run_at: when the child starts.
            queue_override: another queue for it.
            priority: -100 to 100, higher first; None is that of its workflow.
            run_timeout_ms: how long the child may take from its first start, ms or a duration text; then it fails.
                None is that of its workflow. `timeout_ms` is how long this step waits.
            idempotency_key: waits for the run of this key if there is one, instead of starting another.
            idempotency_ttl: how long the key holds, in seconds.

        Returns:
            The child's output.

        Raises:
            RedflowError: the child failed. Retried, with a new child.
            CanceledError: the child was canceled.
            TimeoutError: it took longer than `timeout_ms`. Retried.
        """

    @overload
    async def emit_workflow(
        self,
        name: str,
        workflow: WorkflowLike[InputT, object],
        input: InputT | Mapping[str, object],
        *,
        timeout_ms: float | None = None,
        run_at: datetime | None = None,
        queue_override: str | None = None,
        priority: int | None = None,
        run_timeout_ms: float | str | None = None,
        idempotency_key: str | None = None,
        idempotency_ttl: int | None = None,
    ) -> str: ...

    @overload
    async def emit_workflow(
        self,
        name: str,
        workflow: str,
        input: object,
        *,
        timeout_ms: float | None = None,
        run_at: datetime | None = None,
        queue_override: str | None = None,
        priority: int | None = None,
        run_timeout_ms: float | str | None = None,
        idempotency_key: str | None = None,
        idempotency_ttl: int | None = None,
    ) -> str: ...

    async def emit_workflow(
        self,
        name: str,
        workflow: str | WorkflowLike[InputT, object],
        input: object,
        *,
        timeout_ms: float | None = None,
        run_at: datetime | None = None,
        queue_override: str | None = None,
        priority: int | None = None,
        run_timeout_ms: float | str | None = None,
        idempotency_key: str | None = None,
        idempotency_ttl: int | None = None,
    ) -> str:
        """Start another workflow and go on. Takes what `run_workflow` takes.

        Returns:
            The child's run id. Cancelling this run cancels it, too.
        """

    async def emit_event(
        self,
        name: str,
        event_name: str,
        input: object,
        *,
        correlation_key: str | None = None,
        event_id: str | None = None,
        timeout_ms: float | None = None,
        idempotency_key: str | None = None,
        idempotency_ttl: int | None = None,
    ) -> list[str]:
        """Emit an event, once however often the step runs.

        Args:
            name: the step's name.
            event_name: the event's name.
            input: its data.
            correlation_key: wakes the runs that wait for this key.
            event_id: an id of your own, against duplicates.
            timeout_ms: the longest it may take, in milliseconds.
            idempotency_key: against duplicates; by default made of run, step and event name.
            idempotency_ttl: how long the key holds, in seconds.

        Returns:
            The ids of the runs it started.

        Raises:
            ValueError: a blank event name.
        """

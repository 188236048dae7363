"""The port between r7kit and the engines that run its flows. Pure: protocols and values, no I/O.

Three roles, each one small:

- `FlowRuntime`: what a RUNNING FLOW needs. One per execution; the methods of `BaseTaskWorkflow`, `sleep` and `act` find
  theirs with `current_runtime()`.
- `FlowEngine`: what a CLIENT needs: start a flow.
- `FlowServer`: what a WORKER needs: serve flows and activities until it is told to stop.

An engine is a module of `r7kit.runtimes` with `open_engine` and `open_server` (see `r7kit.runtimes`).

What stands above the port and so is the same on every engine: the order create - start - confirm of a start (in
`start.py` and `children.py`), all task semantics (in `operations.py` and the record's scripts), and conversions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from typing import Final, Protocol

from r7kit.operations import ConfirmTask, CreateTask, DiscardTask, TaskOperation, TaskReply
from r7kit.serializer import dumps
from redflow.types import JsonData

CARRIED_BYTES: Final = 16 * 1024
"""Up to this size a payload travels with the start too."""


@dataclass(frozen=True, slots=True)
class NewTask:
    """The task of a flow that is to be started, judged.

    Attributes:
        task_id: its uuid.
        op: operation id of the start.
        status: its first status.
        payload: its first payload.
    """

    task_id: str
    op: str
    status: str
    payload: dict[str, JsonData]

    @property
    def carried(self) -> dict[str, JsonData] | None:
        """The payload if it is small enough to travel with the start; else None."""
        return self.payload if len(dumps(self.payload)) <= CARRIED_BYTES else None

    def create(self) -> CreateTask:
        """Step 1."""
        return CreateTask(self.task_id, self.op, self.status, self.payload)

    def confirm(self) -> ConfirmTask:
        """Step 3, of the starter: it must not bring back what the flow has removed."""
        return ConfirmTask(self.task_id, self.op, may_create=False)

    def discard(self) -> DiscardTask:
        """What undoes step 1."""
        return DiscardTask(self.task_id, self.op)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how late something is tried again.

    Attributes:
        initial_interval: before the second attempt, seconds.
        backoff: factor from one interval to the next, 1 or more.
        maximum_interval: upper bound of the interval, seconds; None: a hundred times the initial one.
        maximum_attempts: the first included; 0 is unlimited.
    """

    initial_interval: float = 1.0
    backoff: float = 2.0
    maximum_interval: float | None = None
    maximum_attempts: int = 1


@dataclass(frozen=True, slots=True)
class FlowDefinition:
    """A class under @taskflow.

    Attributes:
        name: of the flow type: the class's name.
        cls: the class.
        queue: of the decorator; None: `<name lower>-queue`.
        argument_types: hints of handle()'s positional parameters, `object` where there is none.
        result_type: hint of what handle() returns; None: there is none.
    """

    name: str
    cls: type
    queue: str | None
    argument_types: tuple[object, ...]
    result_type: object | None

    @property
    def default_queue(self) -> str:
        """The queue if nobody says another one."""
        return self.queue or default_queue(self.name)


@dataclass(frozen=True, slots=True)
class ActivityDefinition:
    """A function under @activity: its name and the function, plain or async."""

    name: str
    fn: Callable[..., object]


@dataclass(frozen=True, slots=True)
class FlowInfo:
    """Who the running flow is.

    Attributes:
        engine: `temporal` or `redflow`.
        flow_name: the class's name.
        flow_id: the engine's id of the flow (workflow id, run id).
        task_id: uuid of its task.
        shares_task: whether the task is its parent's.
        queue: it runs on.
    """

    engine: str
    flow_name: str
    flow_id: str
    task_id: str
    shares_task: bool
    queue: str


@dataclass(frozen=True, slots=True)
class ChildCall:
    """A child to be run.

    Attributes:
        flow_name: the type to run.
        queue: to run it on.
        args: of handle().
        task_id: uuid of its task.
        own: its own task, whose record exists already; None: the task is the parent's.
        flow_id: the id it shall have; None: the task's uuid where that is its own, else the engine makes one.
        retry: None: one attempt.
        result_type: what its result is converted to; None: JSON as it is.
    """

    flow_name: str
    queue: str
    args: tuple[object, ...]
    task_id: str
    own: NewTask | None = None
    flow_id: str | None = None
    retry: RetryPolicy | None = None
    result_type: object | None = None


@dataclass(frozen=True, slots=True)
class StartOrder:
    """A flow to be started by a client. Its task's record exists already.

    Attributes:
        flow_name: the type to run.
        flow_id: the id it shall have; a flow that has it already is a refusal, open or closed.
        task: its task.
        queue: to run it on.
        args: of handle().
        retry: None: one attempt.
        result_type: what its result is converted to; None: JSON as it is.
        memo: what the user gave.
        search: what the user gave.
        options: further options of the engine's own start call.
    """

    flow_name: str
    flow_id: str
    task: NewTask
    queue: str
    args: tuple[object, ...]
    retry: RetryPolicy | None = None
    result_type: object | None = None
    memo: Mapping[str, object] = field(default_factory=dict)
    search: Mapping[str, object] = field(default_factory=dict)
    options: Mapping[str, object] = field(default_factory=dict)


class StartRefusedError(Exception):
    """The engine has certainly not started the flow; `__cause__` is what the caller of start() gets to see.

    Any other exception of `FlowEngine.start` means: it may have been started.

    Attributes:
        task_in_use: another start of the same task came first and its flow is running: the record is that one's.
    """

    task_in_use: bool = False


class WorkAbandonedError(RuntimeError):
    """A worker that was stopped could not finish or cancel what ran; another worker will do it again."""


class FlowHandle(Protocol):
    """A flow that was started."""

    @property
    def id(self) -> str:
        """The engine's id of the flow."""
        ...

    async def result(self) -> object:
        """Wait for the end; the converted result of handle(), or the engine's error of a failed flow."""
        ...


class FlowRuntime(Protocol):
    """What a running flow needs. Everything awaited here is durable: recorded once, the same at each replay."""

    @property
    def info(self) -> FlowInfo:
        """Who the flow is."""
        ...

    async def operate(self, operation: TaskOperation, *, timeout_s: float | None = None) -> TaskReply:
        """Do an operation on a task record; a change is done once, however often it is tried.

        Args:
            operation: what to do.
            timeout_s: seconds for all tries together; None: the engine's own patience (minutes).

        Raises:
            TaskNotFoundError, TaskAlreadyExistsError: as themselves, never tried again.
            TimeoutError: it was not done in time; it may still be done.
        """
        ...

    async def run_child(self, call: ChildCall, *, timeout_s: float | None = None) -> object:
        """Run a child flow to its end; its result. A failed child is an exception that names the child."""
        ...

    async def start_child(self, call: ChildCall, *, timeout_s: float | None = None) -> FlowHandle:
        """Start a child flow and return when it is certain that it will run.

        Raises:
            StartRefusedError: it was certainly not started.
        """
        ...

    async def call_activity(
        self, name: str, args: tuple[object, ...], *, timeout_s: float | None = None, queue: str | None = None
    ) -> object:
        """Call an activity by name.

        Args:
            name: of the activity.
            args: of its function.
            timeout_s: seconds for one try; None: the engine's default.
            queue: of another worker; None: the flow's own.
        """
        ...

    async def sleep(self, seconds: float) -> None:
        """Sleep durably."""
        ...

    def new_id(self) -> str:
        """A new UUID, the same one at each replay."""
        ...

    def next_op(self) -> str:
        """The id of the flow's next task operation: of this execution and its place in it, the same at each replay."""
        ...


class FlowEngine(Protocol):
    """What a client needs. Belongs to one event loop."""

    async def connect(self) -> None:
        """Make sure that the engine can be reached, before anything is written; costs nothing when it is connected.

        Raises:
            TemporalNotConnected: it can't.
        """
        ...

    async def start(self, order: StartOrder) -> FlowHandle:
        """Start a flow once.

        Raises:
            StartRefusedError: it was certainly not started, because of its cause.
            TemporalNotConnected: no connection (a cause of StartRefusedError where that is certain).
        """
        ...

    async def close(self) -> None:
        """Close its connections."""
        ...


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """What a worker serves.

    Attributes:
        queue: the one queue it takes work from.
        flows: of the package.
        activities: of the package.
        members: everything else that is defined in the package's modules, for what only the engine knows
            (plain workflows and activities of its SDK).
        concurrency: flows and activities at a time; None: the engine's default.
        grace_s: seconds for what runs when it has to stop.
    """

    queue: str
    flows: tuple[FlowDefinition, ...]
    activities: tuple[ActivityDefinition, ...]
    members: tuple[object, ...] = ()
    concurrency: int | None = None
    grace_s: float = 10.0


class FlowServer(Protocol):
    """What a worker needs."""

    def describe(self, plan: WorkerPlan) -> tuple[str, ...]:
        """Names of what it would serve, flows first, for the worker's first log line."""
        ...

    async def serve(self, plan: WorkerPlan, stop: asyncio.Event, ready: Callable[[], None]) -> None:
        """Take work until `stop` is set, then finish what runs within the grace period and return.

        Args:
            plan: what to serve.
            stop: set by a signal handler of the same event loop.
            ready: called once, when work is taken.

        Raises:
            WorkAbandonedError: something that runs neither ends nor can be canceled.
        """
        ...


def default_queue(flow_name: str) -> str:
    """The queue of a flow that names none."""
    return f"{flow_name.lower()}-queue"


# -- the runtime of the flow that is running ------------------------------------------------------------------------

_bound: ContextVar[FlowRuntime | None] = ContextVar("r7kit_runtime", default=None)
_finders: list[Callable[[], FlowRuntime | None]] = []


def bind_runtime(runtime: FlowRuntime) -> Token[FlowRuntime | None]:
    """Make this the runtime of the current context, and of tasks made in it; undo it with `unbind_runtime`."""
    return _bound.set(runtime)


def unbind_runtime(token: Token[FlowRuntime | None]) -> None:
    """Undo `bind_runtime`."""
    _bound.reset(token)


@contextmanager
def outside_of_flows() -> Iterator[None]:
    """Run what is no flow's code, such as an activity's function, in a context that was copied from a flow's."""
    token = _bound.set(None)
    try:
        yield
    finally:
        _bound.reset(token)


def add_finder(finder: Callable[[], FlowRuntime | None]) -> None:
    """Register how an engine finds the runtime of its running flow where no context variable can tell.

    Temporal calls signal handlers and queries in contexts of its own, maybe before the flow has begun.
    """
    _finders.append(finder)


def find_runtime() -> FlowRuntime | None:
    """The runtime of the flow that is running here; None outside of a flow."""
    bound = _bound.get()
    if bound is not None:
        return bound
    return next((found for finder in _finders if (found := finder()) is not None), None)


def current_runtime() -> FlowRuntime:
    """The runtime of the flow that is running here.

    Raises:
        RuntimeError: no flow is running here.
    """
    runtime = find_runtime()
    if runtime is None:
        raise RuntimeError(
            "not inside a running flow: the methods of BaseTaskWorkflow, sleep() and act() work in handle() and what "
            "it awaits; from outside use r7kit.tasks.get_task, watch, or submit_workflow"
        )
    return runtime

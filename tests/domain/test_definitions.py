"""Defining workflows, starting runs of them, and the registry they stand in."""

from __future__ import annotations

import functools
import inspect
import sys
import types
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pydantic
import pytest

from redflow import definitions, registry
from redflow.default import get_default_client, set_default_client
from redflow.definitions import (
    BlockingWorkflowHandlerContext,
    WorkflowDefinition,
    WorkflowHandlerContext,
    compute_debounce,
    define_workflow,
    validate_input_with_schema,
    workflow,
)
from redflow.errors import InputValidationError, LimitExceededError
from redflow.registry import WorkflowRegistry, get_default_registry
from redflow.types import (
    CronTrigger,
    DefineWorkflowOptions,
    EventTrigger,
    ResolvedDebounce,
    WorkflowDebounceOptions,
    WorkflowRetryPolicy,
)

Context = WorkflowHandlerContext[Any]  # reason: these tests are about options, not about inputs


class Order(pydantic.BaseModel):
    id: int
    at: datetime | None = None


async def handler(ctx: Context) -> str:
    return "done"


class StandInClient:
    """Remembers how it was called, as spec'd for stand-ins of the default client."""

    def __init__(self) -> None:
        self.calls: list[tuple[tuple[object, ...], dict[str, object]]] = []

    async def run_by_name(self, *args: object, **kwargs: object) -> str:
        self.calls.append((args, kwargs))
        return "handle"


@pytest.fixture(autouse=True)
def _empty_default_registry() -> Iterator[None]:
    yield
    registry.__unstable_reset_default_registry_for_tests()


@pytest.fixture
def client() -> Iterator[StandInClient]:
    stand_in: Any = StandInClient()  # reason: a stand-in has just the one method that is needed
    set_default_client(stand_in)
    yield stand_in
    set_default_client(None)


# -- definitions -------------------------------------------------------------------------------------------


def test_the_signature_is_the_contract() -> None:
    parameters = inspect.signature(define_workflow).parameters
    assert {name: p.default for name, p in parameters.items()} == {
        "name": inspect.Parameter.empty,
        "handler": inspect.Parameter.empty,
        "queue": "default",
        "priority": 0,
        **dict.fromkeys(
            [
                *("max_concurrency", "max_attempts", "cron", "event", "debounce", "mutex", "rate_limit"),
                *("retries", "throttle", "on_failure", "input_schema", "registry", "timeout_ms", "durability"),
            ]
        ),
    }
    assert all(p.kind is p.KEYWORD_ONLY for name, p in parameters.items() if name != "name")


def test_define_workflow_registers_in_the_default_registry() -> None:
    definition = define_workflow("w", handler=handler)
    assert (definition.name, definition.handler) == ("w", handler)
    assert definition.options == DefineWorkflowOptions("w")
    assert get_default_registry().get("w") is definition


def test_an_empty_registry_is_used_too() -> None:
    own = WorkflowRegistry()
    definition = define_workflow("w", handler=handler, registry=own)
    assert own.get("w") is definition
    assert get_default_registry().get("w") is None


def test_the_decorator_returns_the_definition() -> None:
    own = WorkflowRegistry()

    @workflow("w", queue="mail", max_concurrency=2, registry=own)
    async def send(ctx: Context) -> None: ...

    assert isinstance(send, WorkflowDefinition)
    assert own.get("w") is send
    assert send.options == DefineWorkflowOptions("w", queue="mail", max_concurrency=2)


def test_one_trigger_may_stand_for_a_list() -> None:
    definition = define_workflow("w", handler=handler, cron=CronTrigger("@daily"), event=EventTrigger(" a "))
    assert definition.options.cron == [CronTrigger("@daily")]
    assert definition.options.event == [EventTrigger("a")]


def test_bad_options_are_refused_and_nothing_is_registered() -> None:
    with pytest.raises(ValueError, match="max_concurrency must be a number from 1 to 1000000000, got 0"):
        define_workflow("w", handler=handler, max_concurrency=0)
    with pytest.raises(ValueError, match="must be one of @hourly"):
        workflow("w", cron=CronTrigger("@reboot"))(handler)
    assert get_default_registry().list() == []


def test_a_definition_made_by_hand_is_taken_as_it_is() -> None:
    options = DefineWorkflowOptions("w", max_attempts=0)
    assert WorkflowDefinition(options, handler).options is options


class AsyncCallable:
    async def __call__(self, ctx: Context) -> str:
        return "done"


class PlainCallable:
    def __call__(self, ctx: BlockingWorkflowHandlerContext[Any]) -> str:
        return "done"


def plain(ctx: BlockingWorkflowHandlerContext[Any]) -> str:
    return "done"


async def with_extra(extra: int, ctx: Context) -> str:
    return f"done {extra}"


@pytest.mark.parametrize("function", [handler, AsyncCallable(), functools.partial(with_extra, 1)])
def test_async_handlers(function: Callable[[Context], Any]) -> None:
    definition = WorkflowDefinition(DefineWorkflowOptions("w"), function)
    assert definition.async_handler is function
    assert definition.blocking_handler is None


@pytest.mark.parametrize("function", [plain, PlainCallable(), functools.partial(plain)])
def test_plain_handlers(function: Callable[[BlockingWorkflowHandlerContext[Any]], Any]) -> None:
    definition = WorkflowDefinition(DefineWorkflowOptions("w"), function)
    assert definition.blocking_handler is function
    assert definition.async_handler is None


async def async_generator(ctx: Context) -> AsyncIterator[int]:
    yield 1


def generator(ctx: Context) -> Iterator[int]:
    yield 1


@pytest.mark.parametrize("function", [None, "handler", 5, generator, async_generator])
def test_other_handlers_are_refused(function: Any) -> None:
    with pytest.raises(ValueError, match=r"^handler must be a function"):
        define_workflow("w", handler=function)


# -- starting runs -----------------------------------------------------------------------------------------


async def test_run_calls_the_default_client_with_exactly_these_keywords(client: StandInClient) -> None:
    definition = define_workflow("w", handler=handler)
    handle: object = await definition.run({"id": 1})
    assert handle == "handle"
    assert client.calls == [
        (
            ("w", {"id": 1}),
            {
                "idempotency_key": None,
                "idempotency_ttl": None,
                "run_at": None,
                "queue_override": "default",
                "max_attempts_override": None,
                "parent_run_id": None,
                "debounce": None,
            },
        )
    ]


async def test_run_passes_its_options_on(client: StandInClient) -> None:
    definition = define_workflow("w", handler=handler, queue="mail", max_attempts=5)
    at = datetime.now(UTC)
    await definition.run(
        {}, idempotency_key="k", idempotency_ttl=5, run_at=at, queue_override="other", parent_run_id="run_1"
    )
    await definition.run({})
    assert client.calls[0][1] == {
        "idempotency_key": "k",
        "idempotency_ttl": 5,
        "run_at": at,
        "queue_override": "other",
        "max_attempts_override": 5,
        "parent_run_id": "run_1",
        "debounce": None,
    }
    assert client.calls[1][1]["queue_override"] == "mail"


@pytest.mark.parametrize(
    ("own", "given", "passed"),
    [(None, None, {}), ("5s", None, {"run_timeout_ms": "5s"}), (5, 7, {"run_timeout_ms": 7})],
)
async def test_a_time_out_is_passed_on_if_there_is_one(
    client: StandInClient, own: float | str | None, given: float | None, passed: dict[str, object]
) -> None:
    await define_workflow("w", handler=handler, timeout_ms=own).run({}, run_timeout_ms=given)
    sent = client.calls[0][1]
    assert {name: sent[name] for name in sent if name == "run_timeout_ms"} == passed


@pytest.mark.parametrize(
    ("own", "given", "passed"), [(0, None, {}), (5, None, {"priority": 5}), (5, 0, {"priority": 0})]
)
async def test_a_priority_is_passed_on_if_there_is_one(
    client: StandInClient, own: int, given: int | None, passed: dict[str, int]
) -> None:
    await define_workflow("w", handler=handler, priority=own).run({}, priority=given)
    sent = client.calls[0][1]
    assert {name: sent[name] for name in sent if name == "priority"} == passed


@pytest.mark.parametrize(
    ("own", "policy", "resolved"),
    [(None, None, None), (5, None, 5), (5, 7, 7), (None, 7, 7), (True, None, None), (4.9, None, 4), (4, True, 4)],
)
def test_max_attempts(own: Any, policy: Any, resolved: int | None) -> None:
    retries = WorkflowRetryPolicy(max_attempts=policy)
    assert define_workflow("w", handler=handler, max_attempts=own, retries=retries).max_attempts == resolved


async def test_run_validates_and_sends_the_validated_value_as_json(client: StandInClient) -> None:
    definition = define_workflow("w", handler=handler, input_schema=Order)
    await definition.run({"id": "17", "at": "2026-01-01T00:00:00Z", "more": 1})
    await definition.run(Order(id=18))
    assert [args for args, _ in client.calls] == [
        ("w", {"id": 17, "at": "2026-01-01T00:00:00Z"}),
        ("w", {"id": 18, "at": None}),
    ]


async def test_models_are_sent_as_json_without_a_schema_too(client: StandInClient) -> None:
    await define_workflow("w", handler=handler).run(Order(id=1))
    assert client.calls[0][0] == ("w", {"id": 1, "at": None})


async def test_bad_input_is_refused_before_a_client_is_touched() -> None:
    definition = define_workflow("w", handler=handler, input_schema=Order)
    with pytest.raises(InputValidationError, match=r"^Workflow input validation failed$") as caught:
        await definition.run({"id": "x"})
    assert isinstance(caught.value.issues, pydantic.ValidationError)
    assert caught.value.__cause__ is caught.value.issues


async def test_run_without_a_client_provider_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(definitions, "_client_provider", None)
    with pytest.raises(RuntimeError, match="import redflow first"):
        await define_workflow("w", handler=handler).run({})


class OwnRefusal:
    @classmethod
    def model_validate(cls, value: object) -> object:
        raise InputValidationError("mine", [value])


async def test_validate_input_with_schema() -> None:
    assert await validate_input_with_schema(Order, {"id": 1}) == Order(id=1)
    with pytest.raises(InputValidationError) as caught:
        await validate_input_with_schema(dict, {"id": 1})
    assert isinstance(caught.value.issues, AttributeError)
    with pytest.raises(InputValidationError, match=r"^mine$"):
        await validate_input_with_schema(OwnRefusal, 1)


# -- debounce ----------------------------------------------------------------------------------------------


def debounced(key: Callable[[Any], Any], **options: Any) -> WorkflowDefinition[Any, str]:
    return define_workflow(
        "w",
        handler=handler,
        debounce=WorkflowDebounceOptions(key, period="1.5s", timeout=options.pop("timeout", None)),
        **options,
    )


async def test_run_resolves_the_debounce_from_the_validated_input(client: StandInClient) -> None:
    definition = debounced(lambda order: f" order-{order.id} ", input_schema=Order, timeout="1m")
    await definition.run({"id": "17"})
    assert client.calls[0][1]["debounce"] == ResolvedDebounce("order-17", 1500, 60_000)


def test_without_debounce_there_is_none() -> None:
    assert compute_debounce(define_workflow("w", handler=handler), {}) is None


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (5, r"^debounce\.key must return a string, got int$"),
        (None, r"^debounce\.key must return a string, got NoneType$"),
        ("", r"^debounce\.key must not be blank$"),
        ("  ", r"^debounce\.key must not be blank$"),
        ("a\0", r"^debounce\.key must not contain control characters"),
    ],
)
async def test_bad_debounce_keys_are_the_callers_errors(key: object, message: str, client: StandInClient) -> None:
    with pytest.raises(ValueError, match=message):
        await debounced(lambda _: key).run({})
    assert client.calls == []


async def test_long_debounce_keys_are_over_the_limit(client: StandInClient) -> None:
    with pytest.raises(LimitExceededError, match=r"debounce\.key is too long: at most 255 bytes"):
        await debounced(lambda _: "x" * 256).run({})


async def test_errors_of_the_key_function_are_the_callers_errors(client: StandInClient) -> None:
    with pytest.raises(KeyError, match="user"):
        await debounced(lambda order: order["user"]).run({})


async def test_bad_debounce_times_of_a_definition_made_by_hand(client: StandInClient) -> None:
    def made_by_hand(period: Any, timeout: Any) -> WorkflowDefinition[Any, str]:
        options = WorkflowDebounceOptions(lambda _: "k", period, timeout)
        return WorkflowDefinition(DefineWorkflowOptions("w", debounce=options), handler)

    with pytest.raises(ValueError, match=r"^debounce\.period: expected 0 or more milliseconds, got -1$"):
        await made_by_hand(-1, None).run({})
    with pytest.raises(ValueError, match=r"^debounce\.timeout: not a duration"):
        await made_by_hand(1, "soon").run({})


# -- registry and default client ---------------------------------------------------------------------------


def test_registry() -> None:
    own = WorkflowRegistry()
    first = define_workflow("a", handler=handler, registry=own)
    second = define_workflow("b", handler=handler, registry=own)
    assert own.list() == [first, second]
    newer = define_workflow("a", handler=handler, registry=own)
    assert own.get("a") is newer
    assert own.list() == [newer, second]
    assert own.get("c") is None
    own.clear()
    assert own.list() == []


def test_the_default_registry_is_cleared_in_place() -> None:
    default = get_default_registry()
    define_workflow("w", handler=handler)
    registry.__unstable_reset_default_registry_for_tests()
    assert get_default_registry() is default
    assert default.list() == []


def test_the_default_client_is_made_once_and_can_be_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = types.ModuleType("redflow.client")
    monkeypatch.setattr(fake, "create_client", StandInClient, raising=False)
    monkeypatch.setitem(sys.modules, "redflow.client", fake)
    set_default_client(None)
    try:
        first = get_default_client()
        assert get_default_client() is first
        other: Any = StandInClient()
        set_default_client(other)
        assert get_default_client() is other
        set_default_client(None)
        assert get_default_client() not in (first, other)
    finally:
        set_default_client(None)

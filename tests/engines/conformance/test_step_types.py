"""Models and dataclasses as step results: the same type on every execution (spec 9)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from pydantic import BaseModel

from redflow import workflow
from redflow.types import WorkflowRetryPolicy
from tests.support.world import BlockingContext, Context, World

NOW = WorkflowRetryPolicy(delay=1)


class Item(BaseModel):
    sku: str
    price: Decimal


class Order(BaseModel):
    at: datetime
    items: list[Item]


@dataclass
class Point:
    x: int
    y: tuple[int, int]


@dataclass
class Narrow:
    x: str


ORDER = Order(at=datetime(2024, 1, 2, tzinfo=UTC), items=[Item(sku="a", price=Decimal("1.10"))])


async def order() -> Order:
    return ORDER


def point() -> Point:
    return Point(1, (2, 3))


def maybe(there: bool) -> Item | None:
    return ORDER.items[0] if there else None


def items() -> list[Item]:
    return ORDER.items


def pairs() -> tuple[Item, Point]:
    return ORDER.items[0], Point(1, (2, 3))


def by_name() -> dict[str, Point]:
    return {"p": Point(1, (2, 3))}


EXPECTED = [
    ORDER,
    Point(1, (2, 3)),
    ORDER.items[0],
    None,
    ORDER.items,
    (ORDER.items[0], Point(1, (2, 3))),
    {"p": Point(1, (2, 3))},
]


async def test_typed_results_come_back_typed_on_every_execution(world: World) -> None:
    seen: list[list[object]] = []

    @workflow("w", registry=world.registry, retries=NOW)
    async def w(ctx: Context) -> None:
        run = ctx.step.run
        seen.append(
            [
                await run("model", order),
                await run("dataclass", point),
                await run("optional", maybe, True),
                await run("none", maybe, False),
                await run("list", items),
                await run("tuple", pairs),
                await run("dict", by_name),
            ]
        )
        if ctx.run.attempt == 1:
            raise ValueError("again")

    handle = await world.begin()
    await handle.result()
    assert seen == [EXPECTED, EXPECTED]
    steps = {step["name"]: step["output"] for step in await world.client.get_run_steps(handle.id)}
    assert steps["model"] == {"at": "2024-01-02T00:00:00Z", "items": [{"sku": "a", "price": "1.10"}]}
    assert steps["dataclass"] == {"x": 1, "y": [2, 3]}


async def test_typed_results_of_plain_handlers(world: World) -> None:
    seen: list[object] = []

    @workflow("w", registry=world.registry, retries=NOW)
    def w(ctx: BlockingContext) -> None:
        seen.append(ctx.step.run("dataclass", point))
        if ctx.run.attempt == 1:
            raise ValueError("again")

    await world.run()
    assert seen == [Point(1, (2, 3))] * 2


async def test_a_stored_value_that_no_longer_fits_fails_the_step_retryably(world: World) -> None:
    """The program changed between two attempts: the value was stored by a function of another type."""

    def narrow() -> Narrow:
        return Narrow("never called")

    @workflow("w", registry=world.registry, retries=NOW)
    async def w(ctx: Context) -> object:
        world.did.append(f"attempt {ctx.run.attempt}")
        if ctx.run.attempt == 2:
            await ctx.step.run("s", narrow)
        value = await ctx.step.run("s", point)
        if ctx.run.attempt == 1:
            raise ValueError("again")
        return value.x

    handle = await world.begin()
    assert await handle.result() == 1, "the third attempt's program fits again: the stored value was kept"
    second = (await world.client.get_run_attempts(handle.id))[1]
    assert second["error"]["kind"] == "step_type"
    assert "'s'" in second["error"]["message"]


async def test_a_result_that_does_not_fit_its_own_annotation_fails_the_step(world: World) -> None:
    def liar() -> Point:
        return Point("x", "y")  # type: ignore[arg-type]

    @workflow("w", registry=world.registry, max_attempts=1)
    async def w(ctx: Context) -> None:
        await ctx.step.run("s", liar)

    handle = await world.begin()
    assert await world.ended(handle) == "failed"
    [step] = await world.client.get_run_steps(handle.id)
    assert step["status"] == "failed"
    assert step["error"]["kind"] in ("step_type", "serialization")


async def test_results_without_a_model_in_their_annotation_stay_plain_json(world: World) -> None:
    def plain() -> tuple[int, ...]:
        return (1, 2)

    @workflow("w", registry=world.registry)
    async def w(ctx: Context) -> object:
        return [type(await ctx.step.run("s", plain)).__name__]

    assert await world.run() == ["list"]

"""Real runs of every state, made by a real worker, for the dashboard's tests and pictures."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from pydantic import BaseModel, Field

from redflow import CronTrigger, EventTrigger, define_workflow
from redflow.types import JsonData, WorkflowRetryPolicy
from tests.support.world import Context, World

NASTY = "<script>alert('x')</script>\"'&{{ 7 * 7 }}"
"""A name that would do harm if a page took it for anything but text."""

TURNED = NASTY + "\u202eturned\u0007"
"""The same with what names may not hold: a mark that turns the direction of what follows, and a bell."""


CALM = "invoice"
"""In its place where people look at the pages."""


class Speed(StrEnum):
    """How a parcel travels."""

    SLOW = "slow"
    FAST = "fast"


class Order(BaseModel):
    """What the workflow `order` takes."""

    number: int = Field(ge=1, description="of the order")
    speed: Speed = Speed.SLOW
    gift: bool = False
    note: str = ""
    password: str = "s3cret-value"


class CardDeclined(Exception):
    """A payment that fails for good."""


@dataclass
class Scene:
    """Ids of runs, by what they show; and what holds the one that is running."""

    world: World
    nasty: str = NASTY
    runs: dict[str, str] = field(default_factory=dict)
    event_id: str = ""
    go: asyncio.Event = field(default_factory=asyncio.Event)

    async def begin(self, name: str, input: object = None, **options: JsonData) -> str:
        """Start a run; its id."""
        return (await self.world.client.emit_workflow(name, input, **options)).id

    async def run(self, name: str, input: object = None) -> str:
        """Start a run and wait for its end, however it ends."""
        handle = await self.world.client.emit_workflow(name, input)
        await self.world.ended(handle)
        return handle.id


def define(scene: Scene) -> None:
    """The workflows of the scene, in the registry of its world."""
    registry = scene.world.registry

    async def reserve(number: int) -> dict[str, JsonData]:
        return {"shelf": number % 7, "items": ["lamp", "rope"], "token": "tok-123456"}

    async def ship(number: int) -> str:
        return f"parcel {number}"

    async def order(ctx: Context) -> JsonData:
        number = ctx.input.number
        reserved = await ctx.step.run("reserve", reserve, number)
        await ctx.step.wait_for("cooling off", "120ms")
        parcel = await ctx.step.run_workflow("ship", "parcel", {"number": number})
        await ctx.step.run("mail", ship, number)
        return {"reserved": reserved, "parcel": parcel}

    async def parcel(ctx: Context) -> str:
        return await ctx.step.run("pack", ship, ctx.input["number"])

    async def payment(ctx: Context) -> None:
        async def charge() -> None:
            raise CardDeclined(f"card declined: {TURNED if scene.nasty == NASTY else 'insufficient funds'}")

        await ctx.step.run("check", ship, 1)
        await ctx.step.run("charge", charge)

    async def approval(ctx: Context) -> JsonData:
        await ctx.step.run("ask", ship, 2)
        return await ctx.step.wait_for_event("answer", "order.approved", f"order-{ctx.input}", "3d")

    async def slow(ctx: Context) -> str:
        await scene.go.wait()
        return "went"

    async def flaky(ctx: Context) -> str:
        if ctx.run.attempt == 1:
            raise ConnectionResetError("the bank hung up")
        return "ok"

    async def echo(ctx: Context) -> JsonData:
        return ctx.input

    define_workflow("order", handler=order, input_schema=Order, registry=registry)
    define_workflow("parcel", handler=parcel, registry=registry)
    define_workflow("payment", handler=payment, max_attempts=1, registry=registry)
    define_workflow("approval", handler=approval, registry=registry)
    define_workflow("slow", handler=slow, registry=registry)
    define_workflow("flaky", handler=flaky, max_attempts=3, retries=WorkflowRetryPolicy(delay="1h"), registry=registry)
    define_workflow("report", handler=echo, cron=CronTrigger("0 8 * * *", timezone="Europe/Berlin"), registry=registry)
    define_workflow("review", handler=echo, event=EventTrigger("order.paid"), registry=registry)
    define_workflow(scene.nasty, handler=echo, registry=registry)


async def set_up(world: World, *, nasty: str = NASTY) -> Scene:
    """A worker, and a run in every state."""
    scene = Scene(world, nasty)
    text = TURNED if nasty == NASTY else nasty
    define(scene)
    await world.worker(replace(world.options(), concurrency=20))
    client = world.client
    scene.runs["succeeded"] = await scene.run("order", {"number": 17, "speed": "fast"})
    scene.runs["failed"] = await scene.run("payment", {"card": "4242", "password": "hunter2"})
    scene.runs["failed too"] = await scene.run("payment", {"card": "5555"})
    scene.runs["asleep"] = await scene.begin("approval", 17)
    scene.runs["retrying"] = await scene.begin("flaky")
    scene.runs["running"] = await scene.begin("slow")
    scene.runs["scheduled"] = await scene.begin("report", {}, run_at=datetime.now(UTC) + timedelta(days=2))
    scene.runs["queued"] = (await client.run_by_name("parcel", {"number": 1}, queue_override="bulk")).id
    canceled = await client.run_by_name("parcel", {"number": 2}, queue_override="bulk")
    await client.cancel_run(canceled.id, reason="ordered twice")
    scene.runs["canceled"] = canceled.id
    scene.runs["nasty"] = await scene.run(scene.nasty, {text: text, "password": "hunter2"})
    emitted = await client.emit_event_detailed("order.paid", {"order": 17}, correlation_key="order-17")
    scene.event_id = emitted["event_id"]
    for handle in emitted["handles"]:
        await world.ended(handle)
    for name, status in (("asleep", "scheduled"), ("retrying", "scheduled"), ("running", "running")):
        await world.reaches(client.make_run_handle(scene.runs[name]), status)
    return scene

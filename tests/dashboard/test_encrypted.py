"""Encrypted runs on the dashboard: shown where the client has the codec, and told to be unreadable where it hasn't."""

from __future__ import annotations

import html
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from redflow import CronTrigger, RedflowError, define_workflow
from redflow.codec import AesGcmCodec
from redflow.dashboard import dashboard
from redflow.domain.run import stored_run_id
from tests.dashboard.visitor import Visitor
from tests.support.world import Context, World, judged

SECRET = "secret-of-a-user"
PASSWORD = "password-of-a-user"
KEY = {"k1": b"k" * 32}


def codec(keys: dict[str, bytes] = KEY) -> AesGcmCodec:
    return AesGcmCodec(keys=keys, current=next(iter(keys)), require_encrypted=True)


@dataclass
class Encrypted:
    """Encrypted records.

    Attributes:
        world: has the codec.
        good: a run that succeeded.
        bad: one that failed.
        event: id of an event.
    """

    world: World
    good: str
    bad: str
    event: str


@pytest.fixture
async def made(redis_url: str, prefix: str) -> AsyncIterator[Encrypted]:
    """Two runs, an event and a schedule."""

    async def handler(ctx: Context) -> object:
        await ctx.step.run("work", lambda: {"step": SECRET, "password": PASSWORD})
        if ctx.input == "bad":
            raise ValueError(f"failed {SECRET}")
        return {"output": SECRET, "password": PASSWORD}

    async with judged(World(redis_url, prefix, codec=codec())) as world:
        cron = CronTrigger("0 0 1 1 *", "UTC", input={"cron": SECRET})
        define_workflow("w", handler=handler, registry=world.registry, max_attempts=1, cron=cron)
        good = await world.begin({"input": SECRET, "password": PASSWORD})
        await good.result()
        bad = await world.start("bad")
        with pytest.raises(RedflowError):
            await bad.result()
        emitted = await world.client.emit_event_detailed("news", {"data": SECRET, "password": PASSWORD})
        yield Encrypted(world, good.id, bad.id, emitted["event_id"])


def pages_of(made: Encrypted) -> list[str]:
    runs = [f"/runs/{made.good}", f"/runs/{made.bad}"]
    return ["/", "/runs", "/runs?q=x&error=ValueError", "/events", "/schedules", "/workflow?name=w", "/health", *runs]


async def test_who_has_the_codec_sees_values_and_masks_hide_them(made: Encrypted) -> None:
    async with Visitor(dashboard(made.world.client, enable_actions=True, mask=("password",))) as visitor:
        page = html.unescape(await visitor.get(f"/runs/{made.good}"))
        assert f'"input": "{SECRET}"' in page
        assert f'"output": "{SECRET}"' in page
        assert f'"step": "{SECRET}"' in page
        assert f"failed {SECRET}" in await visitor.get(f"/runs/{made.bad}")
        assert made.bad in await visitor.get("/runs?error=ValueError")
        assert f'"data": "{SECRET}"' in html.unescape(await visitor.get(f"/event?id={made.event}"))
        for part in ("input", "output", "step?seq=1"):
            assert SECRET in await visitor.get(f"/runs/{made.good}/{part}")
            assert PASSWORD not in await visitor.get(f"/runs/{made.good}/{part}")
        for path in (*pages_of(made), f"/event?id={made.event}"):
            text = await visitor.get(path)
            assert PASSWORD not in text, path
            assert "rf1:" not in text, path
        # what was masked stays as it was
        answer = await visitor.do("rerun", id=made.good, input='{"input": "edited", "password": "••••••"}')
        state = await made.world.client.get_run(answer.headers["hx-redirect"].rpartition("/")[2])
        assert state is not None
        assert state["input"] == {"input": "edited", "password": PASSWORD}


@pytest.mark.parametrize("keys", [None, {"k2": b"2" * 32}], ids=["no codec", "another key"])
async def test_who_lacks_the_key_sees_the_rest_and_why(made: Encrypted, keys: dict[str, bytes] | None) -> None:
    given = None if keys is None else codec(keys)
    world = made.world
    async with (
        judged(World(world.url, world.prefix, shards=world.shards, codec=given)) as keyless,
        Visitor(dashboard(keyless.client, enable_actions=True)) as visitor,
    ):
        for path in pages_of(made):
            text = await visitor.get(path)
            assert "rf1:" not in text, path
            assert SECRET not in text, path
        good = await visitor.words(f"/runs/{made.good}")
        assert "succeeded" in good
        assert "It can't be read: " in good
        assert "key 'k1'" in good
        assert "null" not in good
        assert "Run again" not in good
        assert "key 'k1'" in await visitor.words(f"/runs/{made.bad}")
        listed = await visitor.words("/runs")
        assert "PayloadKeyMissingError" in listed
        event = await visitor.words(f"/event?id={made.event}", status=422)
        assert "It can't be decrypted here" in event
        assert "key 'k1'" in event
        answer = await visitor.do("rerun", id=made.good)
        assert answer.status_code == 409
        assert "PayloadKeyMissingError" in answer.text
        answer = await visitor.do("retry-run", id=made.bad)
        assert answer.status_code == 200, "a retry needs no key"


async def test_what_was_tampered_with_is_told_and_takes_no_page_down(made: Encrypted) -> None:
    world = made.world
    if world.shards > 1:
        pytest.skip("the test writes to one shard")
    third = await world.start("third")
    await third.result()
    key = world.keys.run(stored_run_id(made.good) or "")
    other = await world.redis.hgetall(world.keys.run(stored_run_id(third.id) or ""))
    # the packed text of the other run: each payload of it was moved here
    moved = {name: value for name, value in other.items() if name.isdigit()}
    assert moved
    await world.redis.hdel(key, *(name for name in await world.redis.hkeys(key) if name.isdigit()))
    await world.redis.hset(key, mapping={int(name): value for name, value in moved.items()})
    async with Visitor(dashboard(world.client, enable_actions=True)) as visitor:
        for path in pages_of(made):
            assert "rf1:" not in await visitor.get(path), path
        page = await visitor.words(f"/runs/{made.good}")
        assert "It can't be read: the input" in page
        assert "was moved there" in page
        assert "A part of this run's record can't be read" in page

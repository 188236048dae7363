"""The invariants hold for a healthy prefix, and each planted fault is found under its rule."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest

from redflow.engines.redis import keys
from redflow.engines.redis.link import Argument
from redflow.engines.redis.retention import Resets
from tests.support.invariants import check_invariants, violations
from tests.support.keyspace import FAMILIES, family_of
from tests.support.scripts import BIG, RETENTION_MS, T0, Bench, step

Places = dict[str, str]
EXPIRY = f"@expiry:{RETENTION_MS}"


@pytest.fixture
async def bench(redis_url: str, prefix: str) -> AsyncIterator[Bench]:
    """A bench that may be left broken."""
    bench = Bench(redis_url, prefix)
    yield bench
    await bench.connection.read("DEL", f"{prefix}:elsewhere")
    await Resets(bench.connection, bench.keys).everything()
    await bench.close()


@pytest.fixture
async def places(bench: Bench) -> Places:
    """A run in each place there is, put there by the scripts alone."""
    found: Places = {}
    await bench.serve("w")
    await bench.register_workflow("other")
    for end in ("succeeded", "failed", "canceled"):
        lease = await bench.running()
        await bench.scripts.record([step(lease, payload=BIG)])
        await bench.settle(lease, end, BIG)
        found[end] = lease.run_id
    asleep = await bench.running()
    await bench.settle(asleep, "suspended", due=T0 + 70)
    await bench.register_workflow("w", max_concurrency=2)
    held, back = await bench.running(), await bench.running()
    found |= {"asleep": asleep.run_id, "held": held.run_id, "back": back.run_id}
    found |= {"line": await bench.create(), "stray": await bench.create("other")}
    await bench.claim()
    found |= {"parked": await bench.create("new", queue="q"), "due": await bench.create(run_at_ms=T0 + 50)}
    await bench.scripts.create([replace(bench.order("new"), queue="q", idempotency_key="k")], None)
    await bench.scripts.release([back])
    found["ready"] = await bench.create()
    return found


async def test_a_healthy_prefix_breaks_no_rule(bench: Bench, places: Places) -> None:
    await check_invariants(bench.connection, bench.prefix)
    assert len(places) == 11


async def test_an_empty_prefix_breaks_no_rule(bench: Bench) -> None:
    assert await violations(bench.connection, bench.prefix) == []


FAULTS: dict[str, tuple[list[Argument], str]] = {
    # Keys
    "unknown key": (["SET", "@sequence", "1"], r"key 'sequence' is none of the data model"),
    "outside of the base": (["SET", "{prefix}:elsewhere", "1"], r"key '.*:elsewhere' stands outside of the base"),
    "bad id in a key": (["HSET", "@run:../x", "s", "queued"], r"key 'run:../x' is none of the data model"),
    "wrong type": (["SET", "@retentions", "1"], r"key 'retentions' is a string and should be a set"),
    "waiters without TTL": (["SADD", "@waiters:{due}", "c"], r"key 'waiters:.*' has no TTL"),
    "idempotency key without TTL": (["PERSIST", "@idem:3:new:k"], r"key 'idem:3:new:k' has no TTL"),
    "worker without TTL": (["PERSIST", "@worker:w1"], r"key 'worker:w1' has no TTL"),
    "knows without TTL": (["PERSIST", "@knows:w1"], r"key 'knows:w1' has no TTL"),
    "idle without TTL": (["SADD", "@idle:new", "w1"], r"key 'idle:new' has no TTL"),
    "run with TTL": (["EXPIRE", "@run:{due}", 1000], r"key 'run:.*' has a TTL of \d+ ms and should stay"),
    "worker that knows nothing": (["DEL", "@knows:w1"], r"worker:w1 has no knows:w1"),
    # What tells of other keys
    "line that nobody is told of": (["DEL", "@lined:w"], r"lined:w tells of \[\], there are \['app:q'\]"),
    "line that is not there": (["SADD", "@lined:w", "x"], r"lined:w tells of \['app:q', 'x'\], there are \['app:q'\]"),
    "workflow without its lines": (["DEL", "@lined"], r"lined tells of \[\], there are \['w'\]"),
    "strays that nobody is told of": (["DEL", "@strays"], r"strays tells of \[\], there are \['5:app:q:other'\]"),
    "strays that are not there": (["ZADD", "@strays", 1, "1:q:x"], r"strays tells of \['1:q:x', '5:app:q:other'\]"),
    "retention that nobody is told of": (["SREM", "@retentions", RETENTION_MS], r"retentions tells of \[\]"),
    "retention without a list": (["SADD", "@retentions", 7], r"retentions tells of \['1000000', '7'\]"),
    "metadata that nobody is told of": (["SREM", "@metas", "w"], r"metas tells of \['other'\]"),
    "workflow without runs": (["SADD", "@workflows", "x"], r"workflows tells of \['new', 'other', 'w', 'x'\]"),
    "runs of an unlisted workflow": (["SREM", "@workflows", "w"], r"get_stats\(\) says"),
    # Indexes
    "not in its index": (["ZREM", "@idx:queued:w", "{ready}"], r"idx:queued:w has .*, the records say"),
    "in another index too": (["ZADD", "@idx:failed:w", T0, "{ready}"], r"idx:failed:w has .*, the records say"),
    "wrong time in the index": (["ZADD", "@idx:queued:w", 5, "{ready}"], r"idx:queued:w has .*, the records say"),
    "unknown status": (["HSET", "@run:{ready}", "s", "paused"], r"run .*: status 'paused' is none"),
    "status that was written past the script": (["HSET", "@run:{ready}", "s", "running"], r"idx:running:w has"),
    "record without a queue": (["HDEL", "@run:{ready}", "q"], r"run .*: the record lacks q"),
    # Things of runs that are gone
    "payloads of a run that is gone": (["HSET", "@big:" + "e" * 32, "o", "1"], r"big:e+ has no run"),
    "ready run that is gone": (["ZADD", "@ready:x", 1, "e" * 32], r"ready:x: run 'e+' is gone"),
    "lease of a run that is gone": (["ZADD", "@leases", 1, "e" * 32], r"leases: run 'e+' is gone"),
    "expiry of a run that is gone": (["RPUSH", EXPIRY, "e" * 32], r"expiry:\d+: run 'e+' is gone"),
    "record that is gone": (["DEL", "@run:{due}"], r"due: run '.*' is gone"),
    # Places
    "running without a lease": (["ZREM", "@leases", "{held}"], r"is running and stands in \[\], .* in leases"),
    "lease without a token": (["HDEL", "@run:{held}", "k"], r"is running and stands in \['leases'\]"),
    "released and lost": (["ZREM", "@ready:app:q", "{back}"], r"is running and stands in \[\], .* in ready"),
    "released and held": (["ZADD", "@leases", 1, "{back}"], r"is running and stands in \['leases', 'ready:app:q'\]"),
    "ready and lost": (["ZREM", "@ready:app:q", "{ready}"], r"is queued and stands in \[\]"),
    "ready in another queue": (["ZADD", "@ready:x", 1, "{ready}"], r"is queued and stands in .* 'ready:x'\]"),
    "in line and ready": (["ZADD", "@ready:app:q", 1, "{line}"], r"is queued and stands in \['line:.* 'ready"),
    "in line and lost": (["ZREM", "@line:5:app:q:w", "{line}"], r"is queued and stands in \[\]"),
    "stray and lost": (["ZREM", "@stray:5:app:q:other", "{stray}"], r"is queued and stands in \[\]"),
    "parked and ready": (["ZADD", "@ready:q", 1, "{parked}"], r"is queued and stands in \['parked:new', "),
    "parked without its mark": (["HDEL", "@run:{parked}", "u"], r"is queued and stands in \['parked:new'\]"),
    "due and lost": (["ZREM", "@due", "{due}"], r"is scheduled and stands in \[\], should stand in due"),
    "due at another time": (["ZADD", "@due", 5, "{due}"], r"is due at 5.0, its record says 1700000000050"),
    "asleep and ready": (["ZADD", "@ready:app:q", 1, "{asleep}"], r"is scheduled and stands in \['due', 'r"),
    "over and due": (["ZADD", "@due", 1, "{failed}"], r"is failed and stands in \['due'\]"),
    "over and held": (["ZADD", "@leases", 1, "{canceled}"], r"is canceled and stands in \['leases'\]"),
    "over and never purged": (["LREM", EXPIRY, 0, "{failed}"], r"is failed and stands in the expiry lists \[\]"),
    "purged twice": (["RPUSH", EXPIRY, "{failed}"], r"expiry:1000000: run '.*' stands there 2 times"),
    "in two expiry lists": (["RPUSH", "@expiry:7", "{failed}"], r"stands in the expiry lists \['1000000', '7'\]"),
    "purged before its end": (["RPUSH", EXPIRY, "{due}"], r"is scheduled and stands in the expiry lists"),
    "expiry in disorder": (["HSET", "@run:{succeeded}", "f", T0 + 1], r"expiry:\d+ is not in the order of finishing"),
    # Fields
    "over without an end": (["HDEL", "@run:{succeeded}", "f"], r"is succeeded without f"),
    "succeeded without an output": (["HDEL", "@run:{succeeded}", "o"], r"is succeeded without o"),
    "succeeded with an error": (["HSET", "@run:{succeeded}", "e", "1"], r"is succeeded and has e left"),
    "failed with a decision": (["HSET", "@run:{failed}", "z", "1"], r"is failed and has z left"),
    "running with a due time": (["HSET", "@run:{held}", "d", "1"], r"is running and has d left"),
    "canceled by nobody": (["HDEL", "@run:{canceled}", "k"], r"is canceled without cr"),
    "too many deaths": (["HSET", "@run:{back}", "x", "3"], r"has 3 deaths in a row"),
    "trace of an attempt that never was": (["HSET", "@run:{held}", "a:2", "1 []"], r"has a trace a:2 and 1 attempts"),
    "output that is gone": (["DEL", "@big:{succeeded}"], r"o is stored apart, and big:.* lacks it"),
    "step that is gone": (["HDEL", "@big:{failed}", "s:one"], r"s:one is stored apart, and big:.* lacks it"),
    # Limits
    "more than may run": (["HSET", "@meta:w", "max_concurrency", 1], r"2 runs are running, max_concurrency is 1"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_planted_fault_is_found(bench: Bench, places: Places, fault: str) -> None:
    command, complaint = FAULTS[fault]
    names = places | {"prefix": bench.prefix}
    if fault == "wrong type":
        await bench.read("DEL", "@retentions")
    planted: list[Argument] = [part.format(**names) if isinstance(part, str) else part for part in command]
    await bench.read(*planted)
    with pytest.raises(AssertionError, match=r"\d+ invariants are broken under") as caught:
        await check_invariants(bench.connection, bench.prefix)
    assert re.search(complaint, str(caught.value)), str(caught.value)


async def test_a_limit_that_a_test_lowered_itself_is_no_fault(bench: Bench, places: Places) -> None:
    assert places["held"]
    await bench.register_workflow("w", max_concurrency=1)
    assert await violations(bench.connection, bench.prefix, lowered={"w"}) == []
    assert await violations(bench.connection, bench.prefix) != []


def test_the_families_are_those_of_the_data_model() -> None:
    """Every row of the table in keys.py has its families here, of the same type, with a TTL where the row says so."""
    [_, _, table, *_] = re.split(r"^=+ .*$", keys.__doc__ or "", flags=re.MULTILINE)
    rows = re.findall(r"^(\S.*?) +(hash|set|string|zset|list) +(.*)$", table, re.MULTILINE)
    stand_for = {"<id>": "e" * 32, "<n>": "3", "<status>": "queued", "<retention>": "7", "<w>": "w1"}
    stand_for["<trigger>"], stand_for["<duty>"] = "e" * 32, "promote"
    told = set()
    for row, kind, content in rows:
        for name in row.split(", "):
            example = re.sub(r"<\w+>", lambda match: stand_for.get(match[0], "name"), name)
            family = family_of(example)
            assert family is not None, f"{name} of keys.py has no family"
            told.add(family)
            if ", " not in row:
                assert family.kind == kind, name
                assert family.expires in (None, content.endswith("TTL")), name
    assert told == set(FAMILIES)


async def test_the_fixture_checks_a_prefix_of_the_shared_server(
    bench: Bench, places: Places, invariants: Callable[[str], Awaitable[None]]
) -> None:
    await invariants(bench.prefix)
    await bench.read("ZREM", "@due", places["due"])
    with pytest.raises(AssertionError, match="is scheduled and stands in"):
        await invariants(bench.prefix)

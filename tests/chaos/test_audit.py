"""The audit tells under which claim something was written."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from redflow.engines.redis.replies import as_fields, as_list
from redflow.engines.redis.runs import SETTLE, Lease, Settlement
from redflow.engines.redis.scripts import Script
from tests.chaos.history import Note, parse_audit
from tests.support.scripts import ERROR, LEASE_MS, QUEUE, WORKER, Bench, settlement, step

_AUDIT = Path(__file__).with_name("audit.lua").read_text(encoding="utf-8")


@pytest.fixture
async def bench(redis_url: str, prefix: str) -> AsyncIterator[Bench]:
    """The scripts of a prefix of the test's own; the audit's stream goes with it."""
    bench = Bench(redis_url, prefix)
    yield bench
    await bench.read("DEL", f"audit:{bench.keys.base}")
    await bench.close()


def audited(script: Script) -> Script:
    """A verb as the chaos tests run it."""
    source = (
        f"{_AUDIT}local function audited()\n{script.source}\nend\n"
        f"local reply = audited()\nredis.audit_end('{script.name}')\nreturn reply\n"
    )
    return Script(script.name, source, hashlib.sha1(source.encode()).hexdigest())


async def held_twice(bench: Bench) -> tuple[Lease, Lease]:
    """One worker has a run under a claim that is over and under the one that followed."""
    await bench.serve()
    stale = await bench.running()
    bench.now += LEASE_MS
    await bench.scripts.recover(10, ERROR)
    return stale, await bench.claimed(stale.run_id)


@pytest.mark.parametrize("stale_first", [True, False])
async def test_a_batch_that_brings_a_run_twice(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, stale_first: bool
) -> None:
    """As a soak had it: both outcomes of a run travel in one batch, and only that of the newer claim counts."""
    stale, held = await held_twice(bench)
    ends: list[Settlement] = [settlement(lease, steps=(step(lease),)) for lease in (stale, held)]
    if not stale_first:
        ends.reverse()
    monkeypatch.setattr("redflow.engines.redis.runs.SETTLE", audited(SETTLE))
    _, reasons = await bench.scripts.settle(ends, WORKER, [QUEUE], idle=False)
    assert reasons == {ends.index(settled): "stale" for settled in ends if settled.lease is stale}
    entries = as_list(await bench.read("XRANGE", f"audit:{bench.keys.base}", "-", "+"))
    rows = []
    for entry in entries:
        at, fields = as_list(entry)
        told = {name.decode(): value.decode() for name, value in as_fields(fields).items()}
        rows.append((at.decode() if isinstance(at, bytes) else "", told))
    notes: list[Note] = parse_audit(rows)
    writers = {note.words[-2] if note.kind == "step" else note.words[-1] for note in notes if note.kind in _BY_HOLDER}
    assert writers == {f"{held.fence} {held.token}"}


_BY_HOLDER = ("step", "status")

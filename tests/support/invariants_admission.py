"""What holds at every instant for mutexes, throttles, rate limits and debounces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from tests.support.keyspace import Snapshot

Records = Mapping[str, Mapping[str, str]]


def admission_faults(keys: Snapshot, runs: Records) -> Iterator[str]:
    """Every rule that is broken."""
    if not keys.sharded:  # else they are locks, wherever these are
        yield from _mutex_faults(keys, runs)
    yield from _throttle_faults(keys, runs)
    for name in keys.names("debounce:"):
        run = runs.get(_text(keys, f"debounce:{name}"), {})
        if run.get("dk") != name or "f" in run:
            yield f"debounce:{name} names a run that ended or has another debounce: {dict(run)}"
    for run_id, run in runs.items():
        left = [field for field in ("mk", "tl", "tg") if field in run]
        if "f" in run and left:
            yield f"run {run_id} ended and has {', '.join(left)} left"


def _mutex_faults(keys: Snapshot, runs: Records) -> Iterator[str]:
    owners = {key: _text(keys, f"mutex:{key}") for key in keys.names("mutex:")}
    for key, owner in owners.items():
        run = runs.get(owner, {})
        if run.get("mk") != key or run.get("s") not in ("running", "queued"):
            yield f"mutex:{key} belongs to {owner}, whose record says {dict(run)}"
        if run.get("s") == "queued" and owner not in keys.zset("grants"):
            yield f"mutex:{key} was granted to {owner}, which is not in grants"
    for key in keys.names("mutexline:"):
        if key not in owners:
            yield f"mutexline:{key}: nobody holds the mutex"
        for run_id in keys.zset(f"mutexline:{key}"):
            if runs.get(run_id, {}).get("mk") != key or owners.get(key) == run_id:
                yield f"mutexline:{key}: {run_id} does not wait for it"
    for run_id, run in runs.items():
        key = run.get("mk", "")
        if key and owners.get(key) != run_id and (run["s"] == "running" or run_id not in keys.zset(f"mutexline:{key}")):
            yield f"run {run_id} is {run['s']} and neither holds the mutex {key} nor waits for it"
    for run_id in keys.zset("grants"):
        if runs.get(run_id, {}).get("s") not in ("queued", "running") or run_id not in owners.values():
            yield f"grants: {run_id} was granted nothing"


def _throttle_faults(keys: Snapshot, runs: Records) -> Iterator[str]:
    granted = Counter(run["tl"] for run in runs.values() if "tg" in run)
    for place in {*keys.names("throttle:"), *granted}:
        window = keys.hash(f"throttle:{place}")
        if int(window.get("g", "0")) != granted[place]:
            yield f"throttle:{place} granted {window.get('g', 0)}, the records say {granted[place]}"
        if int(window.get("n", "0")) > int(window.get("l", "0")):
            yield f"throttle:{place} admitted {window['n']} in a window of {window['l']}"
    for place in keys.names("throttleline:"):
        waiting = {run_id for run_id, run in runs.items() if run.get("tl") == place and "tg" not in run}
        standing = set(keys.zset(f"throttleline:{place}"))
        if waiting != standing:
            yield f"throttleline:{place} has {sorted(standing)}, should have {sorted(waiting)}"
        if place not in keys.zset("throttled") and not granted[place]:
            yield f"throttleline:{place} will never move on"
    for place in keys.zset("throttled"):
        if f"throttleline:{place}" not in keys.entries:
            yield f"throttled: {place} has no line"


def _text(keys: Snapshot, name: str) -> str:
    value = keys.entries[name].value
    return value if isinstance(value, str) else ""

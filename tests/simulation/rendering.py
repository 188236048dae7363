"""What a key must hold for a state of the model: one key, or all that are compared."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Final

from tests.model.state import member
from tests.simulation.model import SimulatedModel
from tests.support.keyspace import Value
from tests.support.scripts import RETENTION_MS

COMPARED: Final = frozenset(
    {
        *("run", "idx", "ready", "suspects", "parked", "line", "stray", "due", "timeouts", "leases", "expiry", "idem"),
        *("mutex", "mutexline", "grants", "throttleline", "throttled", "kids", "reached", "cascade", "awaiters"),
        *("waiting", "crons"),
    }
)
"""The families of keys that are compared; the others are hints, metadata, or what the engine never decides by."""


def render_key(model: SimulatedModel, name: str) -> Value | None:
    """What a key of a compared family must hold; empty or None if it must not be there."""
    family, _, rest = name.partition(":")
    return _FAMILIES[family](model, rest)


def _run(model: SimulatedModel, run_id: str) -> Value | None:
    run = model.runs.get(run_id)
    return None if run is None else run.record()


def _index(model: SimulatedModel, rest: str) -> Value:
    status, _, workflow = rest.partition(":")
    runs = model.runs.items()
    return {k: float(run.number("c")) for k, run in runs if run.workflow == workflow and run.status == status}


def _floats(line: dict[str, float] | dict[str, int] | None) -> Value:
    return {key: float(score) for key, score in (line or {}).items()}


def _by_member(model: SimulatedModel, rest: str, lines: dict[tuple[str, str], dict[str, float]]) -> Value:
    return next((_floats(line) for place, line in lines.items() if member(place) == rest), {})


def _holder(model: SimulatedModel, rest: str) -> Value | None:
    return next((run for (wf, key), run in model.holders.items() if f"{len(wf.encode())}:{wf}:{key}" == rest), None)


_FAMILIES: Final[dict[str, Callable[[SimulatedModel, str], Value | None]]] = {
    "run": _run,
    "idx": _index,
    "ready": lambda model, rest: _floats(model.ready.get(rest)),
    "suspects": lambda model, rest: _floats(model.suspects.get(rest)),
    "parked": lambda model, rest: _floats(model.parked.get(rest)),
    "line": lambda model, rest: _by_member(model, rest, model.lines),
    "stray": lambda model, rest: _by_member(model, rest, model.strays),
    "due": lambda model, _: _floats(model.due),
    "timeouts": lambda model, _: _floats(model.timeouts),
    "leases": lambda model, _: _floats(model.leases),
    "expiry": lambda model, rest: list(model.expiry) if rest == str(RETENTION_MS) else [],
    "idem": _holder,
    "mutex": lambda model, rest: model.mutexes.get(rest),
    "mutexline": lambda model, rest: _floats(model.mutex_lines.get(rest)),
    "grants": lambda model, _: _floats(model.grants),
    "throttleline": lambda model, rest: _floats(model.throttle_lines.get(rest)),
    "throttled": lambda model, _: _floats(model.throttled),
    "kids": lambda model, rest: set(model.kids.get(rest, ())),
    "reached": lambda model, rest: set(model.reached.get(rest, ())),
    "cascade": lambda model, _: dict(model.cascade),
    "awaiters": lambda model, rest: set(model.awaiters.get(rest, ())),
    "waiting": lambda model, rest: _floats(model.waiting.get(rest)),
    "crons": lambda model, _: {k: float(cron.due) for k, cron in model.crons.items() if cron.due is not None},
}


def render_all(model: SimulatedModel) -> dict[str, Value]:
    """Every compared key that must be there."""
    names = {f"run:{run_id}" for run_id in model.runs} | {
        f"idx:{run.status}:{run.workflow}" for run in model.runs.values()
    }
    lines: dict[str, list[str]] = defaultdict(list)
    lines["ready"], lines["suspects"], lines["parked"] = list(model.ready), list(model.suspects), list(model.parked)
    lines["line"], lines["stray"] = [member(place) for place in model.lines], [member(p) for p in model.strays]
    lines["idem"] = [f"{len(wf.encode())}:{wf}:{key}" for wf, key in model.holders]
    lines["mutex"], lines["mutexline"] = list(model.mutexes), list(model.mutex_lines)
    lines["throttleline"] = list(model.throttle_lines)
    lines["kids"], lines["reached"], lines["awaiters"] = list(model.kids), list(model.reached), list(model.awaiters)
    lines["waiting"] = list(model.waiting)
    names |= {f"{family}:{rest}" for family, rests in lines.items() for rest in rests}
    names |= {"due", "timeouts", "leases", "grants", "throttled", "cascade", "crons", f"expiry:{RETENTION_MS}"}
    return {name: value for name in names if (value := render_key(model, name))}

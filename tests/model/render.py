"""Which keys Redis must hold for a state of the model, to the last field and score."""

from __future__ import annotations

from collections import defaultdict

from tests.model.state import Line, State, member, text
from tests.support.keyspace import Value
from tests.support.scripts import RETENTION_MS


def render(state: State) -> dict[str, Value]:
    """Every key under the prefix, with its value."""
    return {name: value for name, value in _runs_and_lines(state).items() if value}


def _runs_and_lines(state: State) -> dict[str, Value]:
    keys: dict[str, Value] = {}
    indexes: dict[str, Line] = defaultdict(dict)
    for run_id, run in state.runs.items():
        keys[f"run:{run_id}"] = run.record()
        keys[f"big:{run_id}"] = {name: text(payload) for name, payload in run.big.items()}
        indexes[f"idx:{run.status}:{run.workflow}"][run_id] = run.number("c")
    keys |= indexes
    keys |= {f"idem:{len(wf.encode())}:{wf}:{key}": run_id for (wf, key), run_id in state.holders.items()}
    keys |= {f"ready:{queue}": line for queue, line in state.ready.items()}
    keys |= {f"suspects:{queue}": line for queue, line in state.suspects.items()}
    keys |= {f"parked:{workflow}": line for workflow, line in state.parked.items()}
    keys |= {f"line:{member(place)}": line for place, line in state.lines.items()}
    keys |= {f"stray:{member(place)}": line for place, line in state.strays.items()}
    keys |= {f"idle:{queue}": workers for queue, workers in state.idle.items()}
    lined = {place for place, line in state.lines.items() if line}
    keys |= {f"lined:{workflow}": {queue for queue, wf in lined if wf == workflow} for _, workflow in lined}
    keys["lined"] = {workflow for _, workflow in lined}
    keys["strays"] = {member(place): float(since) for place, since in state.stray_since.items()}
    keys["queues"] = {queue: float(at) for queue, at in state.noted.items()}
    keys["due"] = {run_id: float(at) for run_id, at in state.due.items()}
    keys["timeouts"] = {run_id: float(at) for run_id, at in state.timeouts.items()}
    keys["leases"] = {run_id: float(at) for run_id, at in state.leases.items()}
    keys[f"expiry:{RETENTION_MS}"] = state.expiry
    keys["retentions"] = {str(RETENTION_MS)} if state.expiry else set()
    keys["workflows"] = {run.workflow for run in state.runs.values()}
    keys["queues"] = {queue: float(at) for queue, at in state.noted.items()}
    keys["paused"] = dict(state.paused)
    keys["seq"], keys["epoch"] = str(state.seq) if state.seq else "", str(state.epoch) if state.epoch else ""
    return keys | _registry(state)


def _registry(state: State) -> dict[str, Value]:
    keys: dict[str, Value] = {"metas": set(state.metas)}
    for name, meta in state.metas.items():
        told = {"app": meta.app, "queue": meta.queue, "max_attempts": str(meta.max_attempts), "meta": "{}"}
        told |= {"updated": str(meta.updated)}
        told |= {"on_failure": "1"} if meta.hook else {}
        told |= {} if meta.limit is None else {"max_concurrency": str(meta.limit)}
        keys[f"meta:{name}"] = told | ({} if meta.version is None else {"version": str(meta.version)})
    for name, worker in state.workers.items():
        keys[f"knows:{name}"] = {"", *worker.knows}
        if not worker.gone:
            told = {"app": worker.app, "info": "{}", "started": str(worker.started)}
            claim = {"claim": worker.token, "claimed": " ".join(worker.claimed)} if worker.token else {}
            keys[f"worker:{name}"] = told | claim | ({"suspect": worker.suspect} if worker.suspect else {})
    keys["workers"] = {name: float(worker.alive_until) for name, worker in state.workers.items() if worker.listed}
    return keys

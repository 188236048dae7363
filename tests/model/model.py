"""What the scripts are to do, in plain Python over plain data: the model that the real thing is compared with.

One method a verb, named like it; each answers what the script must answer. It knows nothing of Lua.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from redflow.domain.names import scope_queue
from redflow.domain.payload import pack, unpack
from redflow.domain.run import RunOrder
from redflow.engines.redis.runs import Lease, Settlement, StepWrite
from tests.model.state import TERMINAL, Meta, Place, Run, State, Worker, member, pop
from tests.support.scripts import LEASE_MS, RETENTION_MS


class Model(State):
    """The verbs of a run's life, on a state."""

    # -- creating and claiming ----------------------------------------------------------------------------------

    def create(self, orders: Sequence[RunOrder]) -> list[tuple[str, str]]:
        """create_runs"""
        return [self._create(order) for order in orders]

    def _create(self, order: RunOrder) -> tuple[str, str]:
        meta, run_id = self.metas.get(order.workflow), order.run_id
        if run_id in self.runs:
            return "created", run_id
        queue = order.queue if order.queue is not None else meta.queue if meta else None
        if queue is None:
            return "unknown_workflow", run_id
        if order.idempotency_key is not None:
            found = self.holders.get((order.workflow, order.idempotency_key), "")
            if found in self.runs and self.runs[found].status not in ("failed", "canceled"):
                return "found", found
            self.holders[order.workflow, order.idempotency_key] = run_id
        later = order.run_at_ms is not None and order.run_at_ms > self.now
        run = self.runs[run_id] = Run(order.workflow, "scheduled" if later else "queued", {"c": self.now})
        run.fields["q"] = scope_queue(queue, meta.app) if meta else queue
        if meta is not None and order.queue is not None and order.queue != meta.queue:
            self.noted[run.queue] = self.now
        run.fields["m"] = order.max_attempts or (meta.max_attempts if meta else 3)
        run.fields["i"] = run.store("i", pack(order.input_json))
        if order.parent_run_id:
            run.fields["p"] = order.parent_run_id
        if order.priority:
            run.fields["pr"] = order.priority
        if order.run_timeout_ms is not None:
            run.fields["to"] = order.run_timeout_ms
        if meta is None:
            run.fields["u"] = 1
        elif order.queue is not None and order.queue != meta.queue:
            self.noted[run.queue] = self.now
        if later:
            assert order.run_at_ms is not None
            run.fields["d"] = self.due[run_id] = order.run_at_ms
        elif meta is None:
            self.parked[order.workflow][run_id] = self.next_seq()
        else:
            self.enqueue(run_id)
        return "created", run_id

    def claim(self, name: str, token: str, want: int, queues: Sequence[str]) -> list[tuple[Lease, int]] | None:
        """claim_runs; a lease and an attempt for each run, None if the worker has to register."""
        worker = self.workers.get(name)
        if worker is None or worker.gone:
            return None
        again = worker.token == token
        if again:
            owned = [(run_id, self.runs.get(run_id)) for run_id in worker.claimed]
            taken = [run_id for run_id, run in owned if run and run.status == "running" and run["k"] == token]
        else:
            taken = self._take(worker, token, want, queues)
        for queue in queues:
            if len(taken) < want and not again:
                self.idle[queue].add(name)
            else:
                self.idle[queue].discard(name)
        runs = [(run_id, self.runs[run_id]) for run_id in taken]
        return [(Lease(run_id, run.number("n"), token), run.number("a")) for run_id, run in runs]

    def _take(self, worker: Worker, token: str, want: int, queues: Sequence[str]) -> list[str]:
        taken: list[str] = []
        queues = [queue for queue in queues if f"q:{queue}" not in self.paused]
        by_time = sorted(self.stray_since, key=lambda place: (self.stray_since[place], member(place)))
        lines = [(self.strays[place], place[0]) for place in by_time if place[0] in queues and place[1] in worker.knows]
        for queue in queues:
            lines += [(self.suspects[queue], queue), (self.ready[queue], queue)]
        for line, queue in lines:
            careful = line is self.suspects[queue]
            while len(taken) < want and line and not (careful and self._holds_suspect(worker, token)):
                for run_id, score in pop(line, 1 if careful else want - len(taken)).items():
                    if self._is_set_aside(run_id, queue, score, worker):
                        continue
                    if self._is_suspect(run_id):
                        if self._holds_suspect(worker, token):
                            self.suspects[queue][run_id] = score
                            continue
                        worker.suspect = run_id
                    self._start(run_id, self.runs[run_id], token)
                    taken.append(run_id)
        for place in by_time:
            self._forget_strays(place)
        if taken:
            worker.token, worker.claimed = token, taken
        return taken

    def _is_set_aside(self, run_id: str, queue: str, score: float, worker: Worker) -> bool:
        run = self.runs[run_id]
        meta = self.metas.get(run.workflow)
        full = meta is not None and meta.limit is not None and self.running(run.workflow) >= meta.limit
        full = full or f"w:{run.workflow}" in self.paused
        if run.workflow not in worker.knows:
            self.strays[queue, run.workflow][run_id] = score
            self.stray_since.setdefault((queue, run.workflow), self.now)
            return True
        if run.status == "queued" and full:
            self.lines[queue, run.workflow][run_id] = score
            return True
        return False

    def _is_suspect(self, run_id: str) -> bool:
        """One more death makes it poison; a worker gets one such run at a time."""
        return self.runs[run_id].number("x") >= 2

    def _holds_suspect(self, worker: Worker, token: str) -> bool:
        run = self.runs.get(worker.suspect)
        held = run is not None and run.status == "running" and str(run["k"]).split(".")[0] == token.split(".")[0]
        return held and self._is_suspect(worker.suspect)

    def _start(self, run_id: str, run: Run, token: str) -> None:
        if run.status == "queued":
            self.move(run, "running")
            if run["r"] is None:
                run.fields["a"] = run.number("a") + 1
                if run["t"] is None and run["to"] is not None:
                    run.fields["ta"] = self.timeouts[run_id] = self.now + run.number("to")
                run.fields["t" if run["t"] is None else "b"] = self.now
            run.drop("r")
        run.fields |= {"n": run.number("n") + 1, "k": token}
        self.leases[run_id] = self.now + LEASE_MS

    def _forget_strays(self, place: Place) -> None:
        if not self.strays[place]:
            self.stray_since.pop(place, None)

    # -- the attempt --------------------------------------------------------------------------------------------

    def record(self, writes: Sequence[StepWrite]) -> dict[int, str]:
        """record_steps"""
        reasons: dict[int, str] = {}
        for index, write in enumerate(writes):
            run, reason = self.owned(write.lease)
            if run is not None:
                self._write(run, write)
                if write.header.split()[1].startswith("S"):
                    run.drop("x")
                reason = "cancel" if run["cr"] is not None else self._timed_out(run)
            if reason:
                reasons[index] = reason
        return reasons

    def _timed_out(self, run: Run) -> str:
        return "timeout" if run["z"] is not None and run["ta"] is not None else ""

    def _write(self, run: Run, write: StepWrite) -> None:
        before = run[write.field]
        if isinstance(before, bytes) and before.split()[1].startswith(b"S") and write.header.split()[1].startswith("R"):
            return  # arrived late
        run.fields[write.field] = write.header.encode() + run.store(write.field, write.payload)

    def settle(
        self, items: Sequence[Settlement], worker: str, queues: Sequence[str], *, idle: bool
    ) -> tuple[bool, dict[int, str]]:
        """settle_runs"""
        reasons: dict[int, str] = {}
        for index, item in enumerate(items):
            run, reason = self.owned(item.lease)
            if run is not None:
                for write in item.steps:
                    self._write(run, write)
                outcome = self._settle(item, run)
                reason = "" if outcome == item.outcome else outcome
            if reason not in ("", "settled"):
                reasons[index] = reason
        more = any(self.ready[queue] or self.suspects[queue] for queue in queues)
        if idle and not more:
            for queue in queues:
                self.idle[queue].add(worker)
        return more, reasons

    def _settle(self, item: Settlement, run: Run) -> str:
        run_id, outcome = item.lease.run_id, item.outcome if run["cr"] is None else "canceled"
        late = run["ta"] is not None and run.number("ta") <= self.now
        if run["z"] is None and late and outcome not in ("failed", "canceled"):
            self.decide_timeout(run_id)
        if run["z"] is not None and outcome != "failed":
            self.end_decided(run_id)
            return "timeout"
        if outcome not in ("retry", "suspended"):
            self.finish(run_id, outcome, item.payload if run["z"] is None else self.decided(run))
            return outcome
        if outcome == "retry":
            run.fields["e"] = run.store("e", item.payload)
            run.fields[item.trace_field] = f"{self.now} ".encode() + run.store(item.trace_field, item.trace)
        else:
            run.fields["r"] = 1
        if item.due is not None:  # else it sleeps until somebody wakes it
            run.fields["d"] = self.due[run_id] = item.due
        run.drop("x")
        self.leases.pop(run_id, None)
        self.move(run, "scheduled")
        self.hand_over(run.workflow)
        return outcome

    def decide_failure(self, lease: Lease, error: bytes) -> str:
        """decide_failure"""
        run, reason = self.owned(lease)
        if run is None:
            return reason
        if run["cr"] is not None:
            return "canceled"
        if run["z"] is not None:
            return "ok" if self.decided(run) == error else "timeout"
        run.fields["z"] = run.store("z", error)
        return "ok"

    def release(self, leases: Sequence[Lease]) -> int:
        """release_runs"""
        count = 0
        for lease in leases:
            run, _ = self.owned(lease)
            if run is None:
                continue
            count += 1
            if run["cr"] is not None:
                self.finish(lease.run_id, "canceled")
                continue
            if run["z"] is not None:
                self.end_decided(lease.run_id)
                continue
            del self.leases[lease.run_id]
            run.drop("k")
            self.enqueue(lease.run_id, front=True)
        return count

    # -- loops --------------------------------------------------------------------------------------------------

    def renew(self, name: str, leases: Sequence[Lease], alive_ms: int) -> tuple[int, int, dict[int, str]] | None:
        """renew_leases"""
        for known in self.workers.values():
            known.listed = known.listed and known.alive_until > self.now - 60_000
        worker = self.workers.get(name)
        if worker is None or worker.gone:
            return None
        worker.alive_until, worker.listed = self.now + alive_ms, True
        self.epoch += 1
        reasons: dict[int, str] = {}
        for index, lease in enumerate(leases):
            run, _ = self.owned(lease)
            if run is None:
                reasons[index] = "lost"
                continue
            self.leases[lease.run_id] = self.now + LEASE_MS
            if reason := "cancel" if run["cr"] is not None else self._timed_out(run):
                reasons[index] = reason
        return self.now, self.epoch, reasons

    def recover(self, limit: int, poison: bytes) -> tuple[int, int | None, int, int]:
        """recover_runs"""
        recovered = poisoned = 0
        for run_id in sorted(self.leases, key=lambda run_id: (self.leases[run_id], run_id))[:limit]:
            if self.leases[run_id] > self.now:
                break
            del self.leases[run_id]
            run = self.runs[run_id]
            run.drop("k")
            deaths, decided = run.number("x") + 1, run["z"]
            if run["cr"] is not None:
                self.finish(run_id, "canceled")
                continue
            if deaths >= 3:
                poisoned += 1
                if decided is not None:
                    self.finish(run_id, "failed", self.decided(run))
                    continue
                run.fields["z"] = poison
                run.drop("x")
            else:
                run.fields["x"] = deaths
            recovered += 1
            self.enqueue(run_id, front=True)
        for workflow in {workflow for (_, workflow), line in self.lines.items() if line}:
            self.hand_over(workflow)
        return self.now, min(self.leases.values(), default=None), recovered, poisoned

    def promote(self, limit: int) -> tuple[int, int | None, int]:
        """promote_runs"""
        heads = sorted(self.due, key=lambda run_id: (self.due[run_id], run_id))[:limit]
        promoted = [run_id for run_id in heads if self.due[run_id] <= self.now]
        for run_id in promoted:
            del self.due[run_id]
            run = self.runs[run_id]
            self.move(run, "queued")
            run.drop("d")
            meta = self.metas.get(run.workflow)
            if run["u"] is not None and meta is None:
                self.parked[run.workflow][run_id] = self.next_seq()
                continue
            if run["u"] is not None and meta is not None:
                self._unpark(run, meta)
            self.enqueue(run_id)
        return self.now, self.next_due(), len(promoted)

    def next_due(self) -> int | None:
        """When the next run becomes ready or times out."""
        return min([*self.due.values(), *self.timeouts.values()], default=None)

    def time_out(self, limit: int) -> tuple[int, int | None, int]:
        """time_out_runs"""
        heads = sorted(self.timeouts, key=lambda run_id: (self.timeouts[run_id], run_id))[:limit]
        timed_out = 0
        for run_id in [run_id for run_id in heads if self.timeouts[run_id] <= self.now]:
            del self.timeouts[run_id]
            run = self.runs[run_id]
            if run["z"] is not None or run["cr"] is not None:
                continue
            self.decide_timeout(run_id)
            timed_out += 1
            if run.status == "running" and run["k"] is not None:
                continue
            self._leave_places(run_id, run)
            self.end_decided(run_id)
        return self.now, self.next_due(), timed_out

    def _leave_places(self, run_id: str, run: Run) -> None:
        place = (run.queue, run.workflow)
        ready, suspects = self.ready[run.queue], self.suspects[run.queue]
        for line in (ready, suspects, self.parked[run.workflow], self.lines[place], self.strays[place]):
            line.pop(run_id, None)
        self.due.pop(run_id, None)
        self._forget_strays(place)

    def _unpark(self, run: Run, meta: Meta) -> None:
        run.fields["q"] = scope_queue(run.queue, meta.app)
        run.drop("u")

    def cancel(self, run_id: str, reason: str) -> str:
        """cancel_run"""
        run = self.runs.get(run_id)
        if run is None:
            return "unknown"
        if run.status in TERMINAL:
            return "finished"
        if run["z"] is not None:
            return "decided"
        if run["cr"] is None:
            run.fields["cr"] = self.now
            if reason:
                run.fields["cw"] = reason
        if run.status == "running" and run["k"] is not None:
            return "requested"
        self._leave_places(run_id, run)
        self.finish(run_id, "canceled")
        return "canceled"

    def purge(self, limit: int) -> int:
        """purge_runs"""
        purged = 0
        for run_id in self.expiry[:limit]:
            run = self.runs[run_id]
            if run.number("rx"):
                run.fields["rx"] = run.number("rx") - 1  # it stands here for an end that a retry has undone
            elif run.number("f") + RETENTION_MS > self.now:
                break
            else:
                del self.runs[run_id]
                purged += 1
            self.expiry.pop(0)
        if purged and not self.runs:
            self.noted.clear()
        return purged

    # -- operators ----------------------------------------------------------------------------------------------

    def retry(self, run_id: str, operation: str) -> str:
        """retry_runs, of one"""
        run = self.runs.get(run_id)
        if run is None:
            return "unknown"
        if run.status != "failed":
            return run.status
        attempts, budget = run.number("a"), run.number("rb") or run.number("m")
        if attempts and run[f"a:{attempts}"] is None:
            run.fields[f"a:{attempts}"] = f"{run.number('f')} ".encode() + run.store(f"a:{attempts}", self._trace(run))
        run.fields |= {"m": attempts + budget, "rb": budget, "ro": operation, "rx": run.number("rx") + 1}
        run.drop("f", "e", "ta")
        run.big.pop("e", None)
        if attempts and run["to"] is not None:
            run.fields["ta"] = self.timeouts[run_id] = self.now + run.number("to")
        self.move(run, "queued")
        self.enqueue(run_id)
        return "retried"

    def _trace(self, run: Run) -> bytes:
        """What the record told of the last attempt: its start, its error, and the steps of it that did not succeed."""
        error = run.big["e"] if run["e"] == b"@" else run["e"]
        assert isinstance(error, bytes)
        steps = []
        for name, packed in run.fields.items():
            if name.startswith("s:") and isinstance(packed, bytes):
                number, status, attempt, *_ = packed.decode().split()
                if status.startswith("F") and int(attempt) == run.number("a"):
                    header = f"{number} {status} {attempt} {run.number('c')} 5 "
                    payload = packed.split(b" ", 5)[5]
                    payload = run.big[name] if payload == b"@" else payload
                    steps.append([name[2:], header, unpack(payload).decode()])
        return orjson.dumps([run.number("b") or run.number("t"), unpack(error).decode(), steps])

    def set_pause(self, what: str, reason: str, paused: bool) -> bool:
        """set_pause"""
        if paused:
            return self.paused.setdefault(what, told := f"{self.now} {reason}") is told
        if self.paused.pop(what, None) is None:
            return False
        if what.startswith("w:"):
            self.hand_over(what[2:])
        elif self.ready[what[2:]]:
            self.ring(what[2:])
        return True

    def fail_strays(self, queue: str, workflow: str, patience_ms: int, limit: int, error: bytes) -> int:
        """fail_strays"""
        place = (queue, workflow)
        alive = [worker for worker in self.workers.values() if worker.alive_until >= self.now]
        if workflow in self.metas or any(workflow in worker.knows for worker in alive):
            if place in self.stray_since:
                self.stray_since[place] = self.now
            return 0
        if self.now - self.stray_since.get(place, self.now) < patience_ms or place not in self.stray_since:
            return 0
        popped = pop(self.strays[place], limit)
        for run_id in popped:
            run = self.runs[run_id]
            run.fields.setdefault("a", 1)
            run.fields.setdefault("t", self.now)
            self.finish(run_id, "failed", error if run["z"] is None else self.decided(run))
        self._forget_strays(place)
        return len(popped)

    # -- workers and workflows ----------------------------------------------------------------------------------

    def register_worker(self, name: str, knows: Sequence[str], app: str, alive_ms: int) -> tuple[int, int]:
        """register_worker"""
        known = self.workers.get(name)
        self.epoch += 1
        if known is None or known.gone:
            known = self.workers[name] = Worker(app, frozenset(), self.now, 0)
        known.knows, known.app = frozenset(knows), app
        known.alive_until, known.listed = self.now + alive_ms, True
        return self.now, self.epoch

    def unregister_worker(self, name: str, queues: Sequence[str]) -> str:
        """unregister_worker"""
        for queue in queues:
            self.idle[queue].discard(name)
        worker = self.workers.get(name)
        if worker is not None:
            worker.gone, worker.alive_until, worker.listed = True, self.now, True
        return "ok"

    def register_workflow(
        self, name: str, app: str, queue: str, limit: int | None, version: int | None, hook: bool
    ) -> list[str]:
        """register_workflow"""
        old = self.metas.get(name)
        if old is not None and old.app != app:
            serving = [w for w in self.workers.values() if w.app == old.app and name in w.knows and not w.gone]
            if any(worker.alive_until >= self.now for worker in serving):
                return ["other_app", old.app]
        if version is not None and old is not None and old.version is not None and old.version > version:
            return ["older"]
        kept = version if version is not None else old.version if old is not None else None
        if old is not None and old.queue != queue:
            self.noted[scope_queue(old.queue, old.app)] = self.now
        meta = self.metas[name] = Meta(app, queue, limit, 3, kept, self.now, hook)
        for run_id in pop(self.parked[name], 200):
            self._unpark(self.runs[run_id], meta)
            if self.runs[run_id].queue != scope_queue(queue, app):
                self.noted[self.runs[run_id].queue] = self.now
            self.enqueue(run_id)
        self.hand_over(name)
        if limit is not None and self.running(name) > limit:
            self.lowered.add(name)
        else:
            self.lowered.discard(name)
        return ["ok"]

    def remove_workflows(self, app: str, kept: Sequence[str], quiet_ms: int) -> set[str]:
        """remove_workflows"""
        recent = [worker for worker in self.workers.values() if worker.alive_until >= self.now - quiet_ms]
        lost = {
            name
            for name, meta in self.metas.items()
            if meta.app == app and name not in kept and not any(name in worker.knows for worker in recent)
        }
        for name in lost:
            del self.metas[name]
        return lost

"""Queues and workflows as operators see them: lines, counts, pauses."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import orjson

from redflow.domain.names import scope_queue
from redflow.engine_operations import PauseKind
from redflow.engines.redis.link import Argument
from redflow.engines.redis.operations_base import OperationsBase, Place, page_of
from redflow.engines.redis.pauses import pause_of
from redflow.engines.redis.replies import Reply, as_fields, as_int, as_list, as_text, readable
from redflow.engines.redis.scripts import verb
from redflow.types import ALL_STATUSES, QueueInfo, QueuePage, WorkflowInfo, WorkflowPage

SET_PAUSE = verb("set_pause", args="now, what, reason, paused")

_MOST_WORKERS: Final = 1_000
"""Live workers that are looked at for the queues they serve."""
_HEADS: Final = 10
"""How many runs at the head of a line are asked for their age."""


@dataclass(slots=True)
class _Known:
    """Everything that names a queue.

    Attributes:
        workflows: by queue, those that have it as their own.
        servers: by queue, the slots of each live worker that claims from it.
        lines: keys of lines of runs that were set aside, by queue, and the shard they are on.
        others: paused queues, and those that runs were sent to.
    """

    workflows: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    servers: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    lines: dict[str, list[tuple[int, str]]] = field(default_factory=lambda: defaultdict(list))
    others: set[str] = field(default_factory=set)

    def names(self) -> list[str]:
        """All queues, in order."""
        return sorted({*self.workflows, *self.servers, *self.lines, *self.others})


class QueueReads(OperationsBase):
    """What is asked about queues and workflows, and their pauses."""

    async def pause(self, kind: PauseKind, name: str, reason: str) -> bool:
        """See `Operations.pause`."""
        return await self._set_pause(kind, name, reason, "1")

    async def resume(self, kind: PauseKind, name: str) -> bool:
        """See `Operations.resume`."""
        return await self._set_pause(kind, name, "", "")

    async def _set_pause(self, kind: PauseKind, name: str, reason: str, paused: str) -> bool:
        places = [self._place_of_workflow(name)] if kind == "workflow" else self._places
        changed = False
        for place in places:
            args = (place.scripts.now, f"{kind[0]}:{name}", reason, paused)
            changed = as_int(await place.connection.call(SET_PAUSE, place.keys.base, args)) == 1 or changed
        return changed

    async def queue_names(self) -> list[str]:
        """See `Operations.queue_names`."""
        return (await self._known()).names()

    async def queues(self, cursor: str | None, limit: int) -> QueuePage:
        """See `Operations.queues`."""
        known = await self._known()
        names, following = page_of(known.names(), cursor, limit)
        found: list[QueueInfo] = [
            {
                "queue": name,
                "waiting": 0,
                "set_aside": 0,
                "workers": len(known.servers.get(name, ())),
                "slots": sum(known.servers.get(name, ())),
                "workflows": sorted(known.workflows.get(name, ())),
            }
            for name in names
        ]
        await asyncio.gather(*(self._add_lines(shard, known, found) for shard in range(len(self._places))))
        page: QueuePage = {"queues": found}
        if following is not None:
            page["next_cursor"] = following
        return page

    async def _add_lines(self, shard: int, known: _Known, queues: Sequence[QueueInfo]) -> None:
        """Add what stands in the lines of one shard."""
        place = self._places[shard]
        base, now = place.keys.base, await place.now()
        commands: list[Sequence[Argument]] = []
        for info in queues:
            ready = f"{base}ready:{info['queue']}"
            commands += (
                ("ZCARD", ready),
                ("ZCARD", f"{base}suspects:{info['queue']}"),
                ("ZRANGE", ready, 0, _HEADS - 1),
                ("HGET", place.keys.paused, f"q:{info['queue']}"),
            )
        replies = await place.connection.read_many(commands) if commands else []
        heads: list[tuple[QueueInfo, str]] = []
        for n, info in enumerate(queues):
            ready_count, suspects, first, paused = replies[4 * n : 4 * n + 4]
            info["waiting"] += as_int(ready_count) + as_int(suspects)
            heads += [(info, as_text(run)) for run in as_list(first)]
            if (pause := pause_of(paused)) is not None and "paused" not in info:
                info["paused"] = pause
        lines = [(info, key) for info in queues for at, key in known.lines.get(info["queue"], ()) if at == shard]
        more = await place.connection.read_many(
            [("HMGET", place.keys.run(run), "b", "t", "c") for _, run in heads] + [("ZCARD", key) for _, key in lines]
        )
        for (info, _), times in zip(heads, more, strict=False):
            since = next((as_int(at) for at in as_list(times) if at is not None), now)
            info["oldest_waiting_ms"] = max(info.get("oldest_waiting_ms", 0), now - since)
        for (info, _), count in zip(lines, more[len(heads) :], strict=True):
            info["set_aside"] += as_int(count)

    # -- who knows of which queue ---------------------------------------------------------------------------------

    async def _known(self) -> _Known:
        known = _Known()
        metas = await self._definitions.heads()
        for name, app, queue in metas:
            known.workflows[scope_queue(queue, app)].append(name)
        await self._add_servers(known)
        await asyncio.gather(*(self._add_others(shard, known) for shard in range(len(self._places))))
        return known

    async def _add_servers(self, known: _Known) -> None:
        place = self._home
        base, now = place.keys.base, await place.now()
        workers = as_list(
            await place.connection.read("ZRANGEBYSCORE", f"{base}workers", now, "+inf", "LIMIT", 0, _MOST_WORKERS)
        )
        replies = await place.connection.read_many(
            [("HMGET", f"{base}worker:{as_text(worker)}", "info", "drain") for worker in workers]
        )
        for worker, reply in zip(workers, replies, strict=True):
            info, drain = as_list(reply)
            if drain is None and isinstance(info, bytes):
                readable(f"worker {as_text(worker)}", partial(_add_server, known, info))

    async def _add_others(self, shard: int, known: _Known) -> None:
        place = self._places[shard]
        base = place.keys.base
        paused, sent_to, lined, strays = await place.connection.read_many(
            [
                ("HKEYS", place.keys.paused),
                ("ZRANGE", f"{base}queues", 0, -1),
                ("SMEMBERS", f"{base}lined"),
                ("ZRANGE", place.keys.strays, 0, -1),
            ]
        )
        known.others |= {what[2:] for what in _texts(paused) if what.startswith("q:")}
        known.others |= set(_texts(sent_to))
        workflows = _texts(lined)
        replies = await place.connection.read_many([("SMEMBERS", f"{base}lined:{name}") for name in workflows])
        for workflow, reply in zip(workflows, replies, strict=True):
            for queue in _texts(reply):
                known.lines[queue].append((shard, f"{base}line:{len(queue.encode())}:{queue}:{workflow}"))
        for stray in as_list(strays):
            size, _, rest = as_text(stray).partition(":")
            queue = rest.encode()[: int(size)].decode(errors="replace")
            known.lines[queue].append((shard, f"{base}stray:{as_text(stray)}"))

    # -- workflows ------------------------------------------------------------------------------------------------

    async def workflows(self, cursor: str | None, limit: int) -> WorkflowPage:
        """See `Operations.workflows`."""
        names, following = page_of(sorted(await self._definitions.names()), cursor, limit)
        found = await asyncio.gather(*(self._workflows_at(place, names) for place in self._used_by(names)))
        by_name = {info["name"]: info for some in found for info in some}
        page: WorkflowPage = {"workflows": [by_name[name] for name in names if name in by_name]}
        if following is not None:
            page["next_cursor"] = following
        return page

    def _used_by(self, names: Iterable[str]) -> list[Place]:
        """The shards on which these workflows live."""
        return list({place.keys.base: place for place in map(self._place_of_workflow, names)}.values())

    async def _workflows_at(self, place: Place, names: Sequence[str]) -> list[WorkflowInfo]:
        mine = [name for name in names if self._place_of_workflow(name) is place]
        commands: list[Sequence[Argument]] = []
        for name in mine:
            commands += (("HGETALL", place.keys.meta(name)), ("HGET", place.keys.paused, f"w:{name}"))
            commands += [("ZCARD", place.keys.index(status, name)) for status in ALL_STATUSES]
        replies = await place.connection.read_many(commands)
        width = 2 + len(ALL_STATUSES)
        found: list[WorkflowInfo] = []
        for n, name in enumerate(mine):
            meta, paused, *counts = replies[n * width : (n + 1) * width]
            if as_list(meta):
                found.append(_workflow(name, as_fields(meta), paused, counts))
        return found


def _workflow(name: str, record: dict[bytes, bytes], paused: Reply, counts: Sequence[Reply]) -> WorkflowInfo:
    app = record.get(b"app", b"").decode() or "unknown"
    info: WorkflowInfo = {
        "name": name,
        "app": app,
        "queue": scope_queue(record[b"queue"].decode(), app),
        "max_concurrency": int(record[b"max_concurrency"]) if b"max_concurrency" in record else None,
        "by_status": {status: as_int(count) for status, count in zip(ALL_STATUSES, counts, strict=True)},
    }
    if (pause := pause_of(paused)) is not None:
        info["paused"] = pause
    return info


def _add_server(known: _Known, info: bytes) -> None:
    said = orjson.loads(info)
    for queue in said.get("queues", []):
        known.servers[str(queue)].append(int(said.get("concurrency", 0)))


def _texts(reply: Reply) -> list[str]:
    return [as_text(part) for part in as_list(reply)]

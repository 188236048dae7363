"""Cron triggers as operators see them: next times, pause, resume, fire now."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from redflow.domain.cron import next_fire_ms
from redflow.domain.run import public_run_id
from redflow.domain.shards import on_shard
from redflow.engines.redis.crons import cron_triggers, shown_input
from redflow.engines.redis.opening import opened_cron_input
from redflow.engines.redis.operations_base import OperationsBase, Place
from redflow.engines.redis.pauses import pause_of
from redflow.engines.redis.replies import as_fields, as_list, as_text, readable, reading
from redflow.engines.redis.scripts import verb
from redflow.errors import UnknownWorkflowError
from redflow.types import ScheduleInfo, SchedulePage

SET_SCHEDULE_PAUSE = verb("set_schedule_pause", args="now, trigger, reason, paused, expression, timezone, next")
FIRE_SCHEDULE = verb("fire_schedule", args="now, trigger, id, input")

Record = dict[bytes, bytes]


class Schedules(OperationsBase):
    """What is asked of cron triggers."""

    async def schedules(self, workflow: str | None, cursor: str | None, limit: int, upcoming: int) -> SchedulePage:
        """See `Operations.schedules`."""
        triggers = await self._triggers(workflow)
        first = 0
        if cursor is not None:
            ids = [trigger for _, trigger in triggers]
            first = ids.index(cursor) + 1 if cursor in ids else len(ids)
        page: SchedulePage = {"schedules": await self._read_schedules(triggers[first : first + limit], upcoming)}
        if first + limit < len(triggers):
            page["next_cursor"] = triggers[first + limit - 1][1]
        return page

    async def _triggers(self, workflow: str | None) -> list[tuple[Place, str]]:
        """The triggers of one workflow or all, in the order of workflows and ids, and where each is."""
        names = sorted(await self._definitions.names()) if workflow is None else [workflow]
        told = await self._of_all(lambda place: self._triggers_at(place, names))
        found = sorted((name, trigger, n) for n, some in enumerate(told) for name, trigger in some)
        return [(self._places[n], trigger) for _, trigger, n in found]

    async def _triggers_at(self, place: Place, names: Sequence[str]) -> list[tuple[str, str]]:
        mine = [name for name in names if self._place_of_workflow(name) is place]
        replies = await place.connection.read_many([("HGET", place.keys.meta(name), "crons") for name in mine])
        return [
            (name, trigger)
            for name, reply in zip(mine, replies, strict=True)
            if isinstance(reply, bytes)
            for trigger in cron_triggers({b"crons": reply})
        ]

    async def _read_schedules(self, triggers: Sequence[tuple[Place, str]], upcoming: int) -> list[ScheduleInfo]:
        found: dict[str, ScheduleInfo] = {}
        for place in {place.keys.base: place for place, _ in triggers}.values():
            mine = [trigger for at, trigger in triggers if at is place]
            replies = await place.connection.read_many([("HGETALL", place.keys.cron(trigger)) for trigger in mine])
            now = await place.now()
            for trigger, reply in zip(mine, replies, strict=True):
                record = as_fields(reply) if as_list(reply) else {}
                info = readable(f"cron trigger {trigger}", partial(_info, place, trigger, record, now, upcoming))
                if info is not None:
                    found[trigger] = info
        return [found[trigger] for _, trigger in triggers if trigger in found]

    async def schedule(self, schedule_id: str, upcoming: int) -> ScheduleInfo | None:
        """See `Operations.schedule`."""
        found = await self._find(schedule_id)
        return (
            None if found is None else next(iter(await self._read_schedules([(found[0], schedule_id)], upcoming)), None)
        )

    async def _find(self, schedule_id: str) -> tuple[Place, Record] | None:
        """Where a trigger is, and its record: its id doesn't tell the shard."""
        if not _is_id(schedule_id):
            return None
        told = await self._of_all(lambda place: place.connection.read("HGETALL", place.keys.cron(schedule_id)))
        return next(
            ((place, as_fields(reply)) for place, reply in zip(self._places, told, strict=True) if as_list(reply)), None
        )

    async def pause_schedule(self, schedule_id: str, reason: str) -> bool | None:
        """See `Operations.pause_schedule`."""
        found = await self._find(schedule_id)
        if found is None:
            return None
        return await self._set_pause_of(found[0], schedule_id, reason, "1", "", "", "") == "changed"

    async def resume_schedule(self, schedule_id: str) -> bool | None:
        """See `Operations.resume_schedule`."""
        answer = "other"
        while answer == "other":  # it was registered with another expression meanwhile
            found = await self._find(schedule_id)
            if found is None:
                return None
            place, record = found
            expression, zone = record[b"e"].decode(), record[b"z"].decode()
            following = next_fire_ms(expression, zone, after_ms=await place.now())
            told = "" if following is None else following
            answer = await self._set_pause_of(place, schedule_id, "", "", expression, zone, told)
        return None if answer == "unknown" else answer == "changed"

    async def _set_pause_of(
        self, place: Place, schedule_id: str, reason: str, paused: str, expression: str, zone: str, following: str | int
    ) -> str:
        args = (place.scripts.now, schedule_id, reason, paused, expression, zone, following)
        return as_text(await place.connection.call(SET_SCHEDULE_PAUSE, place.keys.base, args))

    async def fire_schedule(self, schedule_id: str, new_id: str) -> str | None:
        """See `Operations.fire_schedule`."""
        found = await self._find(schedule_id)
        if found is None:
            return None
        place, record = found
        stored = on_shard(new_id, self._places.index(place))
        vault = place.scripts.vault
        with reading(f"cron trigger {schedule_id}"):
            data = opened_cron_input(vault, schedule_id, record[b"i"])
        args = (place.scripts.now, schedule_id, stored, data if vault is None else vault.seal_input(data, stored))
        code = as_text(await place.connection.call(FIRE_SCHEDULE, place.keys.base, args))
        if code == "unknown_workflow":
            raise UnknownWorkflowError(record[b"w"].decode())
        return None if code == "unknown" else public_run_id(stored)


def _info(place: Place, trigger: str, record: Record, now: int, upcoming: int) -> ScheduleInfo:
    paused = pause_of(record.get(b"pa"))
    info: ScheduleInfo = {
        "id": trigger,
        "workflow": record[b"w"].decode(),
        "expression": record[b"e"].decode(),
        "timezone": record[b"z"].decode(),
        "upcoming": [] if paused is not None else _upcoming(record, now, upcoming),
        "skipped": int(record.get(b"sc", b"0")),
        "missed": int(record.get(b"mc", b"0")),
    }
    if (shown := shown_input(place.scripts.vault, trigger, record[b"i"])) is not None:
        value, reason = shown
        if reason:
            info["input_error"] = reason
        else:
            info["input"] = value
    if record.get(b"id"):
        info["trigger_id"] = record[b"id"].decode()[1:]
    if paused is not None:
        info["paused"] = paused
    if b"ft" in record:
        info["last_run_at"], info["last_run_id"] = int(record[b"ft"]), public_run_id(record[b"fr"].decode())
    if b"st" in record:
        info["last_skipped_at"] = int(record[b"st"])
    if b"mt" in record:
        info["last_missed_at"] = int(record[b"mt"])
    return info


def _upcoming(record: Record, now: int, count: int) -> list[int]:
    """Its next times: the one it waits for, and those that follow."""
    times: list[int] = []
    following: int | None = int(record[b"n"]) if record.get(b"n") else None
    while following is not None and len(times) < count:
        times.append(following)
        after = max(following, now)
        following = next_fire_ms(record[b"e"].decode(), record[b"z"].decode(), after_ms=after)
    return times


def _is_id(schedule_id: object) -> bool:
    """Whether this can be the id of a trigger; nothing else is ever a part of a key."""
    return isinstance(schedule_id, str) and len(schedule_id) == 32 and set(schedule_id) <= set("0123456789abcdef")

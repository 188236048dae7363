"""Cron triggers: what is registered of them, and the ticks they fire, each once, whoever fires it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from redflow.definitions import AnyWorkflow
from redflow.domain.cron import LATENESS_MS, CronTurn, cron_turn, next_fire_ms
from redflow.domain.options import check_cron_triggers
from redflow.domain.payload import decode, encode, pack, unpack
from redflow.domain.run import cron_run_id, public_run_id
from redflow.domain.sealing import Vault
from redflow.engines.redis.complaints import Complaints
from redflow.engines.redis.connection import Connection
from redflow.engines.redis.keys import Keys
from redflow.engines.redis.link import Argument
from redflow.engines.redis.opening import opened_cron_input
from redflow.engines.redis.replies import as_int, as_list, as_text, time_or_none
from redflow.engines.redis.runs import SERVER_TIME
from redflow.engines.redis.scripts import verb
from redflow.errors import PayloadDecodeError
from redflow.types import CronTrigger, JsonData, WorkflowCronMeta

SCHEDULE = verb("schedule_crons", args="workflow, version", item="trigger, expression, timezone, input, user_id, next")
DUE = verb("due_crons", args="now, limit")
FIRE = verb("fire_cron", args="now, trigger, due, next, fires, run_id, latest_ms, missed, last_missed")

MOST_DUE: Final = 100
"""How many triggers are looked at in one call."""


@dataclass(frozen=True, slots=True)
class DueCron:
    """A trigger whose time has come."""

    trigger: str
    due: int
    expression: str
    timezone: str


class Crons:
    """The cron triggers of one prefix.

    Args:
        connection: to the server.
        keys: of the prefix.
        local_zone: tells the IANA name of this machine's time zone, if it is known.
        now: SERVER_TIME, or a time for tests, ms.
        vault: encrypts their inputs; None: nothing does.
    """

    def __init__(
        self,
        connection: Connection,
        keys: Keys,
        local_zone: Callable[[], str | None] = lambda: None,
        now: str | int = SERVER_TIME,
        vault: Vault | None = None,
    ) -> None:
        self._connection = connection
        self._keys = keys
        self._local_zone = local_zone
        self.now = now
        self._vault = vault

    @property
    def complaints(self) -> Complaints:
        """Where to say that the server is out of reach."""
        return self._connection.complaints

    def zones(self, definition: AnyWorkflow) -> list[str]:
        """The time zone of each of a workflow's triggers, by IANA name.

        Raises:
            ValueError: triggers repeat or can't fire, or one names no zone and this machine doesn't tell its own.
        """
        check_cron_triggers(definition.options.cron)
        zones: list[str] = []
        for index, trigger in enumerate(definition.options.cron):
            zone = trigger.timezone or self._local_zone()
            if zone is None:
                raise ValueError(
                    f"workflow {definition.name!r}: cron[{index}] names no timezone, and the name of this machine's "
                    f"can't be found out: give it a timezone, or set TZ to a name such as Europe/Berlin"
                )
            zones.append(zone)
        return zones

    async def schedule(self, definition: AnyWorkflow, version: int | None) -> None:
        """Make a registered workflow have exactly the triggers of its definition.

        Args:
            definition: the workflow.
            version: start of the worker, server ms; an older worker changes nothing. None: no worker.

        Raises:
            ValueError: see `zones`.
        """
        args: list[Argument] = [definition.name, "" if version is None else version]
        zones = self.zones(definition)
        now = await self._server_now() if zones else 0
        for trigger, zone in zip(definition.options.cron, zones, strict=True):
            following = next_fire_ms(trigger.expression, zone, after_ms=now)
            trigger_id, stored = cron_trigger_id(definition.name, trigger), pack(_stored_input(trigger))
            args += (
                trigger_id,
                trigger.expression.strip(),
                zone,
                stored if self._vault is None else self._vault.seal_cron(stored, trigger_id),
                "" if trigger.id is None else "=" + trigger.id,
                "" if following is None else following,
            )
        await self._connection.call(SCHEDULE, self._keys.base, args)

    def meta(self, trigger: str, record: dict[bytes, bytes]) -> WorkflowCronMeta:
        """What users see of a stored trigger."""
        return cron_meta(record, shown_input(self._vault, trigger, record[b"i"]))

    def run_id(self, trigger: str, tick_ms: int) -> str:
        """The stored id of the run that a tick starts."""
        return cron_run_id(trigger, tick_ms, self._keys.shard)

    async def _server_now(self) -> int:
        if isinstance(self.now, int):
            return self.now
        seconds, micros = as_list(await self._connection.read("TIME"))
        return as_int(seconds) * 1000 + as_int(micros) // 1000

    async def due(self, limit: int) -> tuple[int, int | None, list[DueCron]]:
        """(the server's time, the earliest time of all triggers, triggers whose time has come)."""
        now, following, *rows = as_list(await self._connection.call(DUE, self._keys.base, (self.now, limit)))
        due: list[DueCron] = []
        for row in rows:
            trigger, at, expression, zone = as_list(row)
            due.append(DueCron(as_text(trigger), as_int(at), as_text(expression), as_text(zone)))
        return as_int(now), time_or_none(following), due

    async def fire(self, cron: DueCron, now_ms: int) -> tuple[str, CronTurn, int | None]:
        """Fire what is to be fired of a trigger: (the script's code, what was judged, the earliest time of all).

        Raises:
            ValueError: this machine doesn't know the trigger's time zone.
        """
        turn = cron_turn(cron.expression, cron.timezone, due_ms=cron.due, now_ms=now_ms)
        args: tuple[Argument, ...] = (
            self.now,
            cron.trigger,
            cron.due,
            "" if turn.next is None else turn.next,
            "" if turn.fires is None else turn.fires,
            "" if turn.fires is None else self.run_id(cron.trigger, turn.fires),
            LATENESS_MS,
            turn.missed,
            "" if turn.last_missed is None else turn.last_missed,
        )
        code, following = as_list(await self._connection.call(FIRE, self._keys.base, args))
        return as_text(code), turn, time_or_none(following)


def cron_trigger_id(workflow: str, trigger: CronTrigger) -> str:
    """The identity of a cron trigger: made of the workflow and the trigger's id, or else all that it says."""
    parts: list[str | None] = ["id", workflow, trigger.id]
    if trigger.id is None:
        canonical = orjson.dumps(orjson.loads(_stored_input(trigger)), option=orjson.OPT_SORT_KEYS).decode()
        parts = ["cron", workflow, trigger.expression.strip(), trigger.timezone, canonical]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def shown_input(vault: Vault | None, trigger: str, stored: bytes) -> tuple[JsonData, str] | None:
    """The input of a trigger as users see it: (it, ""), or (None, why it can't be decrypted here); None if it is `{}`.

    Args:
        vault: of the prefix; None: this program has no codec.
        trigger: its id.
        stored: as the record has it.

    Raises:
        ValueError: it is no JSON.
    """
    try:
        plain = unpack(opened_cron_input(vault, trigger, stored))
    except PayloadDecodeError as exc:
        return None, str(exc)
    return None if plain == b"{}" else (decode(plain), "")


def cron_meta(record: Mapping[bytes, bytes], shown: tuple[JsonData, str] | None) -> WorkflowCronMeta:
    """What users see of a stored trigger, `shown` of its input."""
    meta: WorkflowCronMeta = {"expression": record[b"e"].decode(), "timezone": record[b"z"].decode()}
    if shown is not None:
        value, reason = shown
        if reason:
            meta["input_error"] = reason
        else:
            meta["input"] = value
    if record.get(b"id"):
        meta["id"] = record[b"id"].decode()[1:]
    if record.get(b"n") and b"pa" not in record:
        meta["next_run_at"] = int(record[b"n"])
    if b"ft" in record:
        meta["last_run_at"] = int(record[b"ft"])
        meta["last_run_id"] = public_run_id(record[b"fr"].decode())
    if b"sc" in record:
        meta["skipped"] = int(record[b"sc"])
        meta["last_skipped_at"] = int(record[b"st"])
    if b"mc" in record:
        meta["missed"] = int(record[b"mc"])
        meta["last_missed_at"] = int(record[b"mt"])
    return meta


def cron_triggers(record: Mapping[bytes, bytes]) -> Sequence[str]:
    """The ids of a workflow's triggers, from its metadata."""
    return record.get(b"crons", b"").decode().split()


def _stored_input(trigger: CronTrigger) -> bytes:
    return encode({} if trigger.input is None else trigger.input, what="cron.input")

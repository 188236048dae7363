"""Cron expressions and time zones: what is accepted, and when the next tick is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from redflow.domain.names import check_name

CRON_ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
}
"""Words that stand for an expression."""

MAX_EXPRESSION_CHARS = 1_000
"""The longest cron expression."""

# Any day will do: whether an expression ever fires is decided by the calendar, which repeats every 28 years.
_SOME_DAY = datetime(2024, 1, 1, tzinfo=UTC)
_ZONE_DIRECTORIES = ("zoneinfo", "zoneinfo.default", "zoneinfo-leaps", "posix", "right")


def validate_cron(expression: object, timezone: object = None, *, what: str = "cron") -> None:
    """Raise unless this is a cron expression that fires some day, in a time zone that exists.

    Args:
        expression: 5 fields (minute, hour, day of month, month, day of week), 6 with leading seconds, or one
            of CRON_ALIASES.
        timezone: an IANA name such as "Europe/Berlin"; None is the machine's local zone.
        what: how an error names the trigger.

    Raises:
        ValueError: names the field, what it got and what is wrong with it.
    """
    ticks = _ticks(expression, _SOME_DAY, f"{what}.expression")
    if next(ticks, None) is None:
        raise ValueError(f"{what}.expression never fires: {expression!r}")
    if timezone is not None:
        find_zone(timezone, what=f"{what}.timezone")


def next_fire_ms(expression: str, timezone: str, *, after_ms: int) -> int | None:
    """The first tick after a point in time.

    Args:
        expression: as in `validate_cron`.
        timezone: an IANA name.
        after_ms: epoch milliseconds; the tick is later than this, never equal.

    Returns:
        Epoch milliseconds, a whole second; None if there is no tick within 50 years.

    Raises:
        ValueError: as `validate_cron`.
    """
    return next(_ticks_after(expression, timezone, after_ms), None)


LATENESS_MS: Final = 60_000
"""How late an overdue tick may still fire, ms."""

MISSED_LIMIT: Final = 1_000
"""How many missed ticks of one outage are counted."""


@dataclass(frozen=True, slots=True)
class CronTurn:
    """What is to be done about a trigger whose time has come.

    Attributes:
        fires: the tick that fires now, epoch ms; None if all that is overdue is too old.
        missed: how many ticks passed without firing, counted up to MISSED_LIMIT.
        last_missed: the last one counted.
        next: the first tick that lies ahead; None if there is none within 50 years.
    """

    fires: int | None
    missed: int
    last_missed: int | None
    next: int | None


def cron_turn(expression: str, timezone: str, *, due_ms: int, now_ms: int) -> CronTurn:
    """Divide the ticks since a trigger's due time: the newest fires, unless it is too old; the others are missed.

    Args:
        expression: as in `validate_cron`.
        timezone: an IANA name.
        due_ms: the tick the trigger waits for, epoch ms.
        now_ms: the server's time, not before it.

    Raises:
        ValueError: as `validate_cron`.
    """
    if now_ms < due_ms:
        return CronTurn(None, 0, None, due_ms)
    latest, missed, last_missed = due_ms, 0, None
    # What lies between the counted ticks and those that may still fire is leapt over: an outage may last for years.
    for tick in _ticks_after(expression, timezone, due_ms):
        if tick > now_ms or missed >= MISSED_LIMIT:
            break
        latest, missed, last_missed = tick, missed + 1, latest
    ahead = None
    for tick in _ticks_after(expression, timezone, max(latest, now_ms - LATENESS_MS - 1)):
        if tick > now_ms:
            ahead = tick
            break
        latest, last_missed = tick, latest
        missed = min(missed + 1, MISSED_LIMIT)
    if now_ms - latest <= LATENESS_MS:
        return CronTurn(latest, missed, last_missed, ahead)
    return CronTurn(None, min(missed + 1, MISSED_LIMIT), latest, ahead)


def _ticks_after(expression: str, timezone: str, after_ms: int) -> Iterator[int]:
    """The ticks after a point in time, epoch ms, each later than the one before.

    A job at a fixed time of the day is reckoned in wall-clock time, which repeats an hour when clocks go back, and
    leaves one out when they go forward: what comes twice is passed over here.
    """
    start = datetime.fromtimestamp(after_ms // 1000, find_zone(timezone, what="cron.timezone"))
    for moment in _ticks(expression, start, "cron.expression"):
        tick = int(moment.timestamp()) * 1000
        if tick > after_ms:
            yield tick
            after_ms = tick


def find_zone(name: object, *, what: str = "timezone") -> ZoneInfo:
    """The time zone of an IANA name.

    Raises:
        ValueError: there is no such zone, or the name could not be one.
    """
    text = check_name(name, what=what)
    try:
        return ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
        # ValueError: a path out of the database, or a file that is no zone. OSError: a directory of it.
        raise ValueError(f"{what} is not an IANA time zone such as Europe/Berlin: {text!r}") from exc


def local_zone_name(*, tz: str | None, localtime_path: str | None, etc_timezone: str | None) -> str | None:
    """The IANA name of a machine's local time zone, from what the machine says about it.

    Args:
        tz: the environment variable TZ.
        localtime_path: where the link /etc/localtime leads.
        etc_timezone: the content of /etc/timezone.

    Returns:
        The first of them that names a zone; None if none does. A TZ that is set but names none (such as
        "CET-1CEST") hides the others, as it does for the C library.

    Example:
        >>> local_zone_name(tz=None, localtime_path="/usr/share/zoneinfo/Europe/Oslo", etc_timezone=None)
        'Europe/Oslo'
    """
    if tz is not None and tz.strip():
        candidates: list[str | None] = [tz.strip().removeprefix(":")]
    else:
        candidates = [localtime_path, etc_timezone]
    for candidate in candidates:
        name = _zone_of_path((candidate or "").strip())
        if name and _is_zone(name):
            return name
    return None


def _ticks(expression: object, start: datetime, what: str) -> Iterator[datetime]:
    if not isinstance(expression, str):
        raise ValueError(f"{what} must be a string, got {type(expression).__name__}")
    if len(expression) > MAX_EXPRESSION_CHARS:
        raise ValueError(f"{what} is too long: at most {MAX_EXPRESSION_CHARS} characters, got {len(expression)}")
    text = expression.strip()
    if text.startswith("@"):
        if text.lower() not in CRON_ALIASES:
            known = ", ".join(CRON_ALIASES)
            raise ValueError(f"{what} must be one of {known}, or 5 or 6 fields, got {expression!r}")
        text = CRON_ALIASES[text.lower()]
    if len(fields := text.split()) not in (5, 6):
        raise ValueError(f"{what} must have 5 fields, or 6 with seconds, got {len(fields)}: {expression!r}")
    try:
        return CronSim(text, start)
    except CronSimError as exc:
        raise ValueError(f"{what} is not a cron expression ({exc}): {expression!r}") from exc


def _zone_of_path(path: str) -> str:
    """The zone's name in a path such as /usr/share/zoneinfo/posix/Europe/Berlin; other texts as they are."""
    if not path.startswith("/"):
        return path
    parts = path.split("/")
    while parts and parts[0] not in _ZONE_DIRECTORIES:
        parts.pop(0)
    while parts and parts[0] in _ZONE_DIRECTORIES:
        parts.pop(0)
    return "/".join(parts)


def _is_zone(name: str) -> bool:
    try:
        find_zone(name)
    except ValueError:
        return False
    return True

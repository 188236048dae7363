"""What the environment says: the only reader of `os.environ` in redflow.

Every function reads the environment at the call, so that a program (or a test) may change it while it runs.
An argument always wins over the environment. This module opens no connection and judges no URL: the forms of
a URL stand in `redflow.engines.redis.urls`.

=========================== ===================================================== ==========================
variable                    meaning                                               default
=========================== ===================================================== ==========================
REDIS_URL                   where the state lives                                 redis://localhost:6379
REDFLOW_PREFIX              first part of every key; two prefixes are two worlds  redflow:v1
REDFLOW_APP                 name of the application that defines workflows        none
REDFLOW_RUN_RETENTION_DAYS  how long finished runs are kept, days (a float)       30
REDFLOW_SHARDS              hash slots that a prefix is spread over               1
REDFLOW_CODEC_KEYS          keys that payloads are encrypted with, as JSON        none: plain text
REDFLOW_CODEC_KEYS_FILE     a file that holds that JSON                           none
REDFLOW_DASHBOARD_TOKEN     what visitors of `redflow dashboard` must know        none
REDFLOW_LOG                 "1": debug logging and JSON telemetry lines           off
TZ                          time zone of cron triggers that name none             the machine's
=========================== ===================================================== ==========================
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Final, TypeGuard

from redflow.domain.cron import local_zone_name
from redflow.domain.shards import MAX_SHARDS

DEFAULT_PREFIX: Final = "redflow:v1"
"""The key prefix when neither an argument nor REDFLOW_PREFIX gives one."""

DEFAULT_REDIS_URL: Final = "redis://localhost:6379"
"""The server when neither an argument nor REDIS_URL gives one."""

DEFAULT_RETENTION_DAYS: Final = 30
"""Days for which a finished run is kept when nothing else is said."""

_MS_PER_DAY: Final = 86_400_000
_DEFAULT_SHARDS: Final = 1


def default_prefix() -> str:
    """The key prefix of this process: REDFLOW_PREFIX if it is set and not empty, else `redflow:v1`."""
    return os.environ.get("REDFLOW_PREFIX") or DEFAULT_PREFIX


def resolve_prefix(prefix: str | None) -> str:
    """The key prefix to use.

    Args:
        prefix: what the caller asked for. An explicit "" stays "": only None means "not given".
    """
    return default_prefix() if prefix is None else prefix


def app_from_env() -> str | None:
    """REDFLOW_APP without surrounding white space; None if it is missing or blank."""
    return os.environ.get("REDFLOW_APP", "").strip() or None


def resolve_app(app: str | None) -> str | None:
    """The application's name: the argument without surrounding white space, else REDFLOW_APP, else None."""
    return (app or "").strip() or app_from_env()


def redis_url(url: str | None = None) -> str:
    """The URL of the server: the argument, else REDIS_URL if not blank, else `redis://localhost:6379`.

    The result may hold a password: show it only through `redflow.engines.redis.urls.redacted`.

    Args:
        url: what the caller asked for; returned as it is, also when it is not a valid URL.
    """
    if url is not None:
        return url
    return os.environ.get("REDIS_URL", "").strip() or DEFAULT_REDIS_URL


def resolve_retention_ms(value: float | None = None) -> int:
    """How long finished runs are kept, in whole milliseconds.

    Args:
        value: what the caller asked for, in milliseconds. A finite positive number is rounded down and used;
            anything else (None, bool, zero, negative, NaN, infinite, no number) leaves it to
            REDFLOW_RUN_RETENTION_DAYS, and to 30 days where that is missing, unparsable or not a finite
            positive number.
    """
    if _is_finite_positive(value):
        return math.floor(value)
    try:
        retention_ms = float(os.environ.get("REDFLOW_RUN_RETENTION_DAYS", "")) * _MS_PER_DAY
    except ValueError:  # missing or not a number: the contract asks for the default, not for an error
        return DEFAULT_RETENTION_DAYS * _MS_PER_DAY
    if not _is_finite_positive(retention_ms):
        return DEFAULT_RETENTION_DAYS * _MS_PER_DAY
    return math.floor(retention_ms)


def log_enabled() -> bool:
    """Whether REDFLOW_LOG asks for debug logging and telemetry lines: exactly "1" does."""
    return os.environ.get("REDFLOW_LOG") == "1"


def shards(n: int | None = None) -> int:
    """How many shards the keys of a prefix are spread over.

    Args:
        n: what the caller asked for; None leaves it to REDFLOW_SHARDS, and to 1 where that is blank.

    Raises:
        ValueError: it is not a whole number from 1 to 256.
    """
    if n is not None:
        return _checked_shards(n, "shards", repr(n))
    text = os.environ.get("REDFLOW_SHARDS", "").strip()
    if not text:
        return _DEFAULT_SHARDS
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None
    return _checked_shards(number, "REDFLOW_SHARDS", repr(text))


def codec_keys() -> tuple[str, str] | None:
    """The keys that payloads are encrypted with, as JSON, and where they are from; None if there are none.

    REDFLOW_CODEC_KEYS holds them, or REDFLOW_CODEC_KEYS_FILE names a file that does.

    Raises:
        ValueError: both are set, or the file can't be read; the message doesn't show what they hold.
    """
    text, path = os.environ.get("REDFLOW_CODEC_KEYS", "").strip(), os.environ.get("REDFLOW_CODEC_KEYS_FILE", "").strip()
    if text and path:
        raise ValueError("REDFLOW_CODEC_KEYS and REDFLOW_CODEC_KEYS_FILE are both set: keep one of them")
    if text:
        return text, "REDFLOW_CODEC_KEYS"
    if not path:
        return None
    try:
        return Path(path).read_text("utf-8"), f"the file {path} of REDFLOW_CODEC_KEYS_FILE"
    except (OSError, UnicodeDecodeError) as exc:
        raise ValueError(f"REDFLOW_CODEC_KEYS_FILE: {path} can't be read ({type(exc).__name__})") from None


def dashboard_token(token: str | None = None) -> str | None:
    """What visitors of the dashboard must know: the argument, else REDFLOW_DASHBOARD_TOKEN; None if both are blank."""
    return (token or "").strip() or os.environ.get("REDFLOW_DASHBOARD_TOKEN", "").strip() or None


def local_zone() -> str | None:
    """The IANA name of this machine's time zone; None if the machine does not tell it.

    As for the C library, TZ beats the machine's setting, and a machine without a setting is in UTC.
    """
    localtime = Path("/etc/localtime")
    try:
        etc_timezone = Path("/etc/timezone").read_text("utf-8")
    except (OSError, UnicodeDecodeError):  # most systems have no such file: the other sources say it
        etc_timezone = None
    tz = os.environ.get("TZ")
    name = local_zone_name(
        tz=tz, localtime_path=str(localtime.resolve()) if localtime.exists() else None, etc_timezone=etc_timezone
    )
    if name is None and not (tz or "").strip() and not localtime.exists():
        return "UTC"
    return name


def say_in_environment(*, url: str | None = None, prefix: str | None = None, app: str | None = None) -> None:
    """Put what the command line said into this process's environment.

    So that a `create_client()` in the user's modules, and in what their steps start, means the same server.
    None leaves the variable as it is.
    """
    for name, value in (("REDIS_URL", url), ("REDFLOW_PREFIX", prefix), ("REDFLOW_APP", app)):
        if value is not None:
            os.environ[name] = value


def _checked_shards(n: int | None, label: str, shown: str) -> int:
    if not isinstance(n, int) or isinstance(n, bool) or n < 1:
        raise ValueError(f"{label} must be a whole number of 1 or more, got {shown}")
    if n > MAX_SHARDS:
        raise ValueError(f"{label} must be at most {MAX_SHARDS}, got {shown}")
    return n


def _is_finite_positive(value: float | None) -> TypeGuard[float]:
    """A number above zero; the contract counts a bool as no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return value > 0 and (isinstance(value, int) or math.isfinite(value))

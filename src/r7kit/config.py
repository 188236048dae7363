"""Where things are and how long they live: the only reader of the environment in r7kit.

    from r7kit.config import configure
    configure(redis_url="redis://localhost:6379", deleted_ttl=60)

`configure` beats the environment, that beats `~/.r7kit.toml` (its keys are the parameter names), and that beats the
defaults. Everything is read at the time of use: a connection keeps what it was made with, a new one takes what holds
then. Nothing is ever written.

========================= ======================= =========================================================
variable                  default                 meaning
========================= ======================= =========================================================
REDIS_URL                 redis://localhost:6379  Redis of the task records
TEMPORAL_ADDRESS          localhost:7233          host:port
TEMPORAL_NAMESPACE        default                 namespace
TEMPORAL_API_KEY          none                    API key; turns TLS on unless TEMPORAL_TLS says otherwise
TEMPORAL_TLS              off                     1, true, on, yes; or the opposites
R7KIT_STREAM              task_events             stream key
R7KIT_DELETED_TTL         3600                    seconds a deleted task stays readable
R7KIT_TASK_TTL            604800                  seconds an untouched task lives; renewed while its flow runs
R7KIT_STREAM_MAXLEN       100000                  approximate cap of the stream
R7KIT_ENGINE              temporal                temporal or redflow
R7KIT_LOG_LEVEL           INFO                    a level of logging
R7KIT_LOG_FORMAT          std                     std or json
========================= ======================= =========================================================
"""

from __future__ import annotations

import os
import threading
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Final, TypeGuard
from urllib.parse import urlsplit

FILE_NAME: Final = ".r7kit.toml"
ENGINES: Final = ("temporal", "redflow")
LOG_FORMATS: Final = ("std", "json")

_MAX_SECONDS: Final = 10 * 365 * 86_400
_YES: Final = ("1", "true", "on", "yes")
_NO: Final = ("0", "false", "off", "no", "")
_REDIS_SCHEMES: Final = ("redis", "rediss", "unix", "redis+sentinel", "embedded")


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds at one moment. Neither repr nor errors show the API key or a password of the URL.

    Attributes:
        redis_url: Redis of the task records.
        temporal_address: host:port.
        stream_default: key of the stream of changes.
        deleted_ttl: seconds a deleted task stays readable.
        engine: `temporal` or `redflow`.
        temporal_namespace: namespace.
        temporal_api_key: of Temporal Cloud; None: none.
        temporal_tls: whether the connection to Temporal is encrypted.
        task_ttl: seconds an untouched task lives.
        stream_maxlen: approximate cap of the stream, entries.
    """

    redis_url: str = field(default="redis://localhost:6379", repr=False)
    temporal_address: str = "localhost:7233"
    stream_default: str = "task_events"
    deleted_ttl: int = 3600
    engine: str = "temporal"
    temporal_namespace: str = "default"
    temporal_api_key: str | None = field(default=None, repr=False)
    temporal_tls: bool = False
    task_ttl: int = 604_800
    stream_maxlen: int = 100_000


_VARIABLES: Final = {
    "redis_url": "REDIS_URL",
    "temporal_address": "TEMPORAL_ADDRESS",
    "stream_default": "R7KIT_STREAM",
    "deleted_ttl": "R7KIT_DELETED_TTL",
    "engine": "R7KIT_ENGINE",
    "temporal_namespace": "TEMPORAL_NAMESPACE",
    "temporal_api_key": "TEMPORAL_API_KEY",
    "temporal_tls": "TEMPORAL_TLS",
    "task_ttl": "R7KIT_TASK_TTL",
    "stream_maxlen": "R7KIT_STREAM_MAXLEN",
}

_lock = threading.Lock()
_configured: dict[str, object] = {}
_frozen_by: list[Callable[[], bool]] = []


def configure(
    *,
    redis_url: str | None = None,
    temporal_address: str | None = None,
    stream_default: str | None = None,
    deleted_ttl: int | None = None,
    engine: str | None = None,
    temporal_namespace: str | None = None,
    temporal_api_key: str | None = None,
    temporal_tls: bool | None = None,
    task_ttl: int | None = None,
    stream_maxlen: int | None = None,
) -> None:
    """Say where things are. May be called at any time, from any thread; what is None stays as it was.

    Connections that exist keep what they were made with, new ones take the new values. A call does nothing where a
    workflow sandbox imports the user's module once more: the worker's own settings hold there.

    Args:
        redis_url: Redis of the task records: redis://, rediss://, unix://, redis+sentinel:// or embedded://.
        temporal_address: host:port.
        stream_default: key of the stream of changes.
        deleted_ttl: seconds a deleted task stays readable; 0: it is removed at once.
        engine: `temporal` or `redflow`.
        temporal_namespace: namespace.
        temporal_api_key: of Temporal Cloud.
        temporal_tls: whether to encrypt the connection to Temporal.
        task_ttl: seconds an untouched task lives, 1 or more.
        stream_maxlen: approximate cap of the stream, entries, 1 or more.

    Raises:
        ValueError: a value is none of its kind; the message names the parameter. Nothing was changed.

    Example:
        >>> configure(redis_url="redis://localhost:6379", stream_default="task_events", deleted_ttl=60)
    """
    given: dict[str, object] = {
        "redis_url": redis_url,
        "temporal_address": temporal_address,
        "stream_default": stream_default,
        "deleted_ttl": deleted_ttl,
        "engine": engine,
        "temporal_namespace": temporal_namespace,
        "temporal_api_key": temporal_api_key,
        "temporal_tls": temporal_tls,
        "task_ttl": task_ttl,
        "stream_maxlen": stream_maxlen,
    }
    checked = {name: _CHECKS[name](value, name) for name, value in given.items() if value is not None}
    if is_frozen():
        return
    with _lock:
        _configured.update(checked)


def current(given: Mapping[str, object] | None = None) -> Settings:
    """What holds now: configure > environment > ~/.r7kit.toml > default.

    Args:
        given: judged values that beat all of these.

    Raises:
        ValueError: a value in the environment or in the file is none of its kind, or the file can't be read;
            the message names the variable or the file.
    """
    values: dict[str, object] = dict(_from_file(_settings_file()))
    for name, variable in _VARIABLES.items():
        text = os.environ.get(variable, "").strip()
        if text:
            values[name] = _CHECKS[name](_from_text(name, text, variable), variable)
    with _lock:
        values.update(_configured)
    values.update(given or {})
    if values.get("temporal_api_key") and "temporal_tls" not in values:
        values["temporal_tls"] = True
    return _settings(values)


def checked(**given: str | None) -> dict[str, str]:
    """The given settings that are not None, judged; for a place of its own, such as a worker's arguments.

    Raises:
        ValueError: a value is none of its kind; the message names it.
    """
    return {name: str(_CHECKS[name](value, name)) for name, value in given.items() if value is not None}


def reset() -> None:
    """Forget every `configure`; for tests."""
    with _lock:
        _configured.clear()


def ignore_where(frozen: Callable[[], bool]) -> None:
    """Make `configure` do nothing where this says so; for an engine that imports user modules more than once."""
    _frozen_by.append(frozen)


def is_frozen() -> bool:
    """Whether this is such a place, where user modules are imported once more."""
    return any(frozen() for frozen in _frozen_by)


def log_level() -> str:
    """R7KIT_LOG_LEVEL in upper case, INFO if it is blank. Not judged here."""
    return os.environ.get("R7KIT_LOG_LEVEL", "").strip().upper() or "INFO"


def log_format() -> str:
    """R7KIT_LOG_FORMAT, `std` if it is blank.

    Raises:
        ValueError: it is neither `std` nor `json`.
    """
    text = os.environ.get("R7KIT_LOG_FORMAT", "").strip().lower() or "std"
    if text not in LOG_FORMATS:
        raise ValueError(f"R7KIT_LOG_FORMAT must be std or json, got {text!r}")
    return text


# -- the file -------------------------------------------------------------------------------------------------------


def _settings_file() -> Path | None:
    try:
        return Path.home() / FILE_NAME
    except RuntimeError:  # a user without a home has no such file
        return None


def _from_file(path: Path | None) -> Mapping[str, object]:
    if path is None:
        return {}
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except NotADirectoryError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise ValueError(f"{path}: can't be read: {exc}") from exc
    unknown = sorted(set(content) - set(_CHECKS))
    if unknown:
        raise ValueError(f"{path}: unknown setting {unknown[0]!r}; known are {', '.join(_CHECKS)}")
    return {name: _CHECKS[name](value, f"{path}: {name}") for name, value in content.items()}


# -- judging values -------------------------------------------------------------------------------------------------


def _from_text(name: str, text: str, variable: str) -> object:
    if name in ("deleted_ttl", "task_ttl", "stream_maxlen"):
        if not (text.isascii() and text.isdecimal() and len(text) < 16):
            raise ValueError(f"{variable} must be a whole number, got {text!r}")
        return int(text)
    if name == "temporal_tls":
        if text.lower() not in _YES + _NO:
            raise ValueError(f"{variable} must be one of {', '.join((*_YES, *_NO[:-1]))}, got {text!r}")
        return text.lower() in _YES
    return text


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and bool(value.strip()) and not any(ord(c) < 32 or ord(c) == 127 for c in value)


def _text(value: object, label: str) -> str:
    if not _is_text(value):
        raise ValueError(f"{label} must be a text that is not blank and has no control characters, got {_kind(value)}")
    return value


def _redis_url(value: object, label: str) -> str:
    """The URL itself never appears in a message: it may hold a password."""
    if not _is_text(value):
        raise ValueError(f"{label} must be a Redis URL, got {_kind(value)}")
    scheme = value.partition("://")[0] if "://" in value else ""
    if scheme == "redis+cluster":
        raise ValueError(
            f"{label} must not be a Redis Cluster: a task's record and its stream change in one step, which needs one "
            "primary; give a single server or a Sentinel"
        )
    if scheme not in _REDIS_SCHEMES:
        raise ValueError(f"{label} must start with one of {', '.join(f'{s}://' for s in _REDIS_SCHEMES)}")
    if scheme in ("redis", "rediss"):
        try:
            port = urlsplit(value).port
        except ValueError as exc:
            raise ValueError(f"{label}: the port is no number from 1 to 65535") from exc
        if port == 0:
            raise ValueError(f"{label}: the port is no number from 1 to 65535")
    return value


def _address(value: object, label: str) -> str:
    text = _text(value, label)
    host, colon, port = text.rpartition(":")
    valid = port.isascii() and port.isdecimal() and len(port) < 6 and 0 < int(port) < 65536
    if not colon or not host or "/" in text or " " in text or not valid:
        raise ValueError(f"{label} must be host:port, got {text[:80]!r}")
    return text


def _engine(value: object, label: str) -> str:
    if value not in ENGINES:
        raise ValueError(f"{label} must be temporal or redflow, got {_kind(value)}")
    return str(value)


def _flag(value: object, label: str) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{label} must be true or false, got {_kind(value)}")
    return value


def _whole(least: int, most: int) -> Callable[[object, str], int]:
    def check(value: object, label: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError(f"{label} must be a whole number from {least} to {most}, got {_kind(value)}")
        return value

    return check


def _secret(value: object, label: str) -> str:
    if not _is_text(value):
        raise ValueError(f"{label} must be a text that is not blank")
    return value


def _kind(value: object) -> str:
    return repr(value)[:80] if isinstance(value, int | float | str) else type(value).__name__


_CHECKS: Final[dict[str, Callable[[object, str], object]]] = {
    "redis_url": _redis_url,
    "temporal_address": _address,
    "stream_default": _text,
    "deleted_ttl": _whole(0, _MAX_SECONDS),
    "engine": _engine,
    "temporal_namespace": _text,
    "temporal_api_key": _secret,
    "temporal_tls": _flag,
    "task_ttl": _whole(1, _MAX_SECONDS),
    "stream_maxlen": _whole(1, 10**12),
}

assert {f.name for f in fields(Settings)} == set(_CHECKS) == set(_VARIABLES)


def _settings(values: Mapping[str, object]) -> Settings:
    """The values have been judged; this says so to the type checker, with the checks once more."""
    defaults = Settings()

    def get(name: str) -> object:
        return values.get(name, getattr(defaults, name))

    key = get("temporal_api_key")
    return Settings(
        redis_url=_redis_url(get("redis_url"), "redis_url"),
        temporal_address=_address(get("temporal_address"), "temporal_address"),
        stream_default=_text(get("stream_default"), "stream_default"),
        deleted_ttl=_whole(0, _MAX_SECONDS)(get("deleted_ttl"), "deleted_ttl"),
        engine=_engine(get("engine"), "engine"),
        temporal_namespace=_text(get("temporal_namespace"), "temporal_namespace"),
        temporal_api_key=None if key is None else _secret(key, "temporal_api_key"),
        temporal_tls=_flag(get("temporal_tls"), "temporal_tls"),
        task_ttl=_whole(1, _MAX_SECONDS)(get("task_ttl"), "task_ttl"),
        stream_maxlen=_whole(1, 10**12)(get("stream_maxlen"), "stream_maxlen"),
    )

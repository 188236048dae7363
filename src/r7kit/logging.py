"""Logging of programs that have not set it up themselves.

A library must not touch the program's logging. So the worker calls `setup_if_unset`, which does nothing if the root
logger has a handler or the program has called `setup`.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
from datetime import UTC, datetime
from typing import Final, TextIO

from r7kit import config

_STD_FORMAT: Final = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
# A password in a URL: what stands between the scheme's // (and maybe a user name) and the @.
_PASSWORD: Final = re.compile(r"(?P<head>\b[a-z][a-z0-9+.-]{0,30}://[^\s:/@]{0,255}):[^\s/@]{1,1024}@", re.IGNORECASE)
_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")

_lock = threading.Lock()
_handler: logging.Handler | None = None


def redact(text: str) -> str:
    """The text with the passwords of all URLs in it replaced, and control characters (newlines stay) made visible."""
    text = _PASSWORD.sub(r"\g<head>:***@", text)
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


class StdFormatter(logging.Formatter):
    """One readable line a record, without passwords."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        return redact(super().format(record))


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `at` (UTC), `level`, `logger`, `message`, and `error` (a traceback) if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        if record.exc_info:
            line["error"] = redact(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)


def setup(level: str | int | None = None, fmt: str | None = None, *, stream: TextIO | None = None) -> None:
    """Log to stderr. May be called again: the last call holds; handlers of the program itself are left alone.

    Args:
        level: name or number of a level; None: R7KIT_LOG_LEVEL, else INFO.
        fmt: `std` or `json`; None: R7KIT_LOG_FORMAT, else std.
        stream: where to write; None: stderr.

    Raises:
        ValueError: there is no such level or format.

    Example:
        >>> setup("DEBUG")
    """
    number = _level(config.log_level() if level is None else level)
    chosen = config.log_format() if fmt is None else fmt
    if chosen not in config.LOG_FORMATS:
        raise ValueError(f"fmt must be std or json, got {chosen!r}")
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(JsonFormatter() if chosen == "json" else StdFormatter(_STD_FORMAT))
    global _handler
    with _lock:
        root = logging.getLogger()
        if _handler is not None:
            root.removeHandler(_handler)
        root.addHandler(handler)
        root.setLevel(number)
        _handler = handler


def setup_if_unset() -> None:
    """Call `setup()` unless the program has called it or has given the root logger a handler."""
    with _lock:
        unset = _handler is None and not logging.getLogger().handlers
    if unset:
        setup()


def _level(level: str | int) -> int:
    if isinstance(level, int) and not isinstance(level, bool):
        return level
    name = str(level).strip().upper()
    if name not in _LEVELS:
        raise ValueError(f"level must be one of {', '.join(_LEVELS)}, got {str(level)[:80]!r}")
    number: int = getattr(logging, name)
    return number

"""Names, keys, queues and prefixes: what is allowed in them and how they are put together."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from itertools import islice

from redflow.errors import LimitExceededError

MAX_NAME_BYTES = 255
"""The longest name or key, in bytes of UTF-8."""

DEFAULT_QUEUE = "default"
"""The queue of a workflow that names none."""

UNKNOWN_APP = "unknown"
"""The app of a workflow whose metadata names none; it scopes nothing."""

# The C0 and C1 controls, the two line separators, and the marks that turn the direction of text around: a
# name with one of them reads as another name in a log, a terminal or a page. Joiners, which emoji need, are
# allowed.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_PREFIX_FORBIDDEN = re.compile(r"[{}*?\[\]\\]")
_MOST_COMPARED = 2_000


def check_name(value: object, *, what: str) -> str:
    """Return `value` if it can be a name or key, else raise.

    Args:
        value: what should be a non-blank text of at most 255 bytes of UTF-8 without control characters. It is
            returned as it is: two names that differ in their Unicode normal form are two names.
        what: how an error names the field.

    Raises:
        ValueError: not a text, blank, with control characters or with lone surrogates.
        LimitExceededError: too long.
    """
    text = _check_text(value, what)
    if not text or text.isspace():
        raise ValueError(f"{what} must not be blank")
    return text


def check_key(value: object, *, what: str) -> str:
    """Return `value`, stripped, if it can be a key; raises as `check_name` does."""
    return check_name(value, what=what).strip()


def check_prefix(prefix: object) -> str:
    r"""Return `prefix` if it can be a key prefix, else raise. An empty one is allowed.

    Raises:
        ValueError: not a text, or with one of `{ } * ? [ ] \` (they mean something in key patterns and hash
            tags), control characters or lone surrogates.
        LimitExceededError: longer than 255 bytes of UTF-8.
    """
    text = _check_text(prefix, "prefix")
    if match := _PREFIX_FORBIDDEN.search(text):
        raise ValueError(f"prefix must not contain {{ }} * ? [ ] or \\, got {match.group()!r} in {_shown(text)}")
    return text


def scope_queue(queue: str | None, app: str | None) -> str:
    """The stored name of a queue: `<app>:<queue>`.

    Args:
        queue: the queue as the user named it; None or blank is "default". One that already starts with
            `<app>:` is left as it is.
        app: the app it belongs to; None, blank and "unknown" scope nothing.
    """
    name = queue if queue and not queue.isspace() else DEFAULT_QUEUE
    if not app or app.isspace() or app == UNKNOWN_APP or name.startswith(f"{app}:"):
        return name
    return f"{app}:{name}"


def near_names(name: str, known: Iterable[str]) -> list[str]:
    """Up to three of `known` that look like `name`, the most alike first, for "did you mean" messages.

    Only the first 2,000 names of about the same length are compared, so that the error stays quick however
    many workflows there are.
    """
    slack = max(3, len(name) // 2)
    alike = (candidate for candidate in known if abs(len(candidate) - len(name)) <= slack)
    return difflib.get_close_matches(name, list(islice(alike, _MOST_COMPARED)), n=3, cutoff=0.6)


def _check_text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{what} must be a string, got {type(value).__name__}")
    # Before anything else looks at the text: 255 bytes hold no more than 255 characters.
    if len(value) > MAX_NAME_BYTES:
        raise LimitExceededError(f"{what} is too long: at most {MAX_NAME_BYTES} bytes, got {len(value)} characters")
    if not value.isascii():
        try:
            size = len(value.encode())
        except UnicodeEncodeError:
            raise ValueError(f"{what} must be valid Unicode, got a lone surrogate in {_shown(value)}") from None
        if size > MAX_NAME_BYTES:
            raise LimitExceededError(f"{what} is too long: at most {MAX_NAME_BYTES} bytes of UTF-8, got {size}")
    # What is matched is never printable: the quicker look comes first.
    if not value.isprintable() and (match := _CONTROL.search(value)):
        raise ValueError(f"{what} must not contain control characters, got {match.group()!r} in {_shown(value)}")
    return value


def _shown(text: str) -> str:
    shown = ascii(text)
    return shown if len(shown) <= 80 else shown[:77] + "..."

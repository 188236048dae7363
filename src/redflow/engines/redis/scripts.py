"""Loads the Lua verbs: resolves includes, reads the contract header, and holds callers to it.

A verb is a file of `lua/`, an include one of `lua/lib/` that defines the function of its name. An include's text
stands in a verb once, however often it is asked for, and after everything it asks for itself.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files
from typing import Final

PACKAGE: Final = "redflow.engines.redis"
"""The package whose verbs are meant where no other is named."""

_HEADER = re.compile(r"^-- (verb|purpose|keys|args|item|replies): (.*)$", re.M)
_INCLUDE = re.compile(r"^-- include: (\w+)\n", re.M)


@dataclass(frozen=True, slots=True)
class Script:
    """A verb as it is sent to the server."""

    name: str
    source: str
    sha: str


def verb(name: str, *, args: str = "none", item: str = "", package: str = PACKAGE) -> Script:
    """The script of a verb.

    Args:
        name: file name without `.lua`.
        args: names of the arguments the caller sends, as in the script's header.
        item: names of the repeated arguments, as in the header; empty if there are none.
        package: whose `lua` directory has the verb and its includes.

    Raises:
        ValueError: the caller's idea of the contract differs from the script's header.
    """
    source = _resolve(name, _read if package == PACKAGE else partial(_read_of, package))
    header = dict(_HEADER.findall(source))
    for what, told, written in (("args", args, header.get("args", "none")), ("item", item, header.get("item", ""))):
        if told != written:
            raise ValueError(f"script {name}: the caller sends {what} {told!r}, the header says {written!r}")
    return Script(name, source, hashlib.sha1(source.encode()).hexdigest())


@cache
def _read_of(package: str, path: str) -> str:
    return files(package).joinpath("lua", *path.split("/")).read_text(encoding="utf-8")


def _read(path: str) -> str:
    return _read_of(PACKAGE, path)


def _resolve(name: str, read: Callable[[str], str] | None = None) -> str:
    read = read or _read
    text = read(f"{name}.lua")
    seen: set[str] = set()
    parts: list[str] = []

    def add(include: str) -> None:
        if include in seen:
            return
        seen.add(include)
        body = read(f"lib/{include}.lua")
        for inner in _INCLUDE.findall(body):
            add(inner)
        parts.append(_INCLUDE.sub("", body))

    for include in _INCLUDE.findall(text):
        add(include)
    header_end = _header_length(text)
    return text[:header_end] + "".join(parts) + _INCLUDE.sub("", text[header_end:])


def _header_length(text: str) -> int:
    """Length of the leading comment block without its include lines' effect on order."""
    lines = text.splitlines(keepends=True)
    length = 0
    for line in lines:
        if not line.startswith("--") or line.startswith("-- include:"):
            break
        length += len(line)
    return length

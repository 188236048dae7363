"""The real server behind the simulated network: one blocking connection, one command at a time, on virtual time."""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
import re
import socket
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import hiredis
from redis.exceptions import ResponseError

import redflow.engines.redis as engine
from redflow.engines.redis.scripts import Script

Raw = None | int | bytes | list["Raw"] | Exception
_PRELUDE: Final = Path(__file__).with_name("prelude.lua").read_text("utf-8")
_PLAIN: Final = """
local replies = {}
local i = 1
while i <= #ARGV do
  local last = i + tonumber(ARGV[i])
  local reply = redis.call(unpack(ARGV, i + 1, last))
  replies[#replies + 1] = reply == nil and false or reply
  i = last + 1
end
return replies
"""
_HEADER: Final = re.compile(r"^-- (args|item): (.*)$", re.M)


@dataclass(frozen=True, slots=True)
class Change:
    """A key that a call wrote, and what it holds now: type `none` if it is gone."""

    key: str
    kind: str
    content: list[bytes]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a call: its reply, the keys it wrote, and what it told: messages and times to live."""

    reply: Raw
    changes: list[Change]
    told: list[list[bytes]]


@dataclass(frozen=True, slots=True)
class Planted:
    """A bug that is planted on purpose: in every script that has it, `old` becomes `new`."""

    old: str
    new: str


def product_scripts() -> dict[str, Script]:
    """Every script of the engine by its SHA1."""
    for found in pkgutil.walk_packages(engine.__path__, engine.__name__ + "."):
        importlib.import_module(found.name)
    modules = [module for name, module in list(sys.modules.items()) if name.startswith("redflow.") and module]
    return {value.sha: value for module in modules for value in vars(module).values() if isinstance(value, Script)}


def simulated(source: str) -> str:
    """A script as the simulation runs it; see prelude.lua."""
    return f"{_PRELUDE}\nlocal function sim_verb()\n{source}\nend\nreturn redis.sim_end(sim_verb())\n"


class SimulatedServer:
    """The one server, asked from the outside of the simulation.

    Args:
        socket_path: its unix socket.
        planted: bugs to be planted into the scripts.

    Attributes:
        verbs: SHA1 as the product sends it -> name of the script.
    """

    def __init__(self, socket_path: str, planted: Iterable[Planted] = ()) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(socket_path)
        self._reader = hiredis.Reader(replyError=ResponseError)
        self.verbs: dict[str, str] = {}
        self._ours: dict[str, str] = {}
        planted = list(planted)
        fits = dict.fromkeys(planted, False)
        for sha, script in product_scripts().items():
            source = script.source
            for bug in planted:
                fits[bug] = fits[bug] or bug.old in source
                source = source.replace(bug.old, bug.new)
            self.verbs[sha] = script.name
            self._ours[sha] = self._load(simulated(source))
        if not all(fits.values()):
            raise ValueError(
                f"planted bugs that no script has a place for: {[b.old for b, fit in fits.items() if not fit]}"
            )
        self._plain = self._load(simulated(_PLAIN))
        hello = self._ask(b"HELLO")
        assert isinstance(hello, list)
        self.hello: Raw = hello

    def _load(self, source: str) -> str:
        sha = hashlib.sha1(source.encode()).hexdigest()
        if self._ask(b"SCRIPT", b"LOAD", source.encode()) != sha.encode():
            raise ValueError("the server does not take a script")
        return sha

    def empty(self) -> None:
        """Remove everything."""
        self._ask(b"FLUSHALL")

    def run_verb(self, sha: str, base: bytes, args: Sequence[bytes], now_ms: int, chance: int) -> Outcome:
        """Run one of the product's scripts at a time."""
        return self._run(self._ours[sha], base, args, now_ms, chance)

    def run_plain(self, commands: Sequence[Sequence[bytes]], now_ms: int, chance: int) -> Outcome:
        """Run plain commands in one instant; the reply is the list of theirs."""
        flat = [part for command in commands for part in (b"%d" % len(command), *command)]
        return self._run(self._plain, b"-", flat, now_ms, chance)

    def _run(self, sha: str, base: bytes, args: Sequence[bytes], now_ms: int, chance: int) -> Outcome:
        answer = self._ask(b"EVALSHA", sha.encode(), b"3", base, b"%d" % now_ms, b"%d" % chance, *args)
        if isinstance(answer, Exception):
            return Outcome(answer, [], [])
        assert isinstance(answer, list)
        reply, changed, told = answer
        assert isinstance(changed, list)
        assert isinstance(told, list)
        return Outcome(reply, [_change(row) for row in changed], [_words(row) for row in told])

    def _ask(self, *command: bytes) -> Raw:
        self._socket.sendall(pack(command))
        while True:
            reply = self._reader.gets()
            if reply is not False:
                answer: Raw = reply
                return answer
            self._reader.feed(self._socket.recv(1 << 16))

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


def pack(words: Sequence[bytes]) -> bytes:
    """A command in the Redis protocol."""
    packed: bytes = hiredis.pack_command(tuple(words))  # type: ignore[arg-type]  # reason: its stub says tuple of one
    return packed


def _change(row: Raw) -> Change:
    assert isinstance(row, list)
    key, kind, content = row
    assert isinstance(key, bytes)
    assert isinstance(kind, bytes)
    return Change(key.decode("utf-8", "surrogateescape"), kind.decode(), _words(content))


def _words(row: Raw) -> list[bytes]:
    assert isinstance(row, list)
    return [part for part in row if isinstance(part, bytes)]

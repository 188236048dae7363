"""One world of the chaos tests: a prefix, its processes, each behind a proxy of its own, and the harm that is done."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from redis.asyncio import Redis

from redflow.engines.redis.connection import Connection
from redflow.engines.redis.keys import Keys
from redflow.engines.redis.queries import Queries
from tests.chaos.history import History, parse_audit
from tests.chaos.ledger import Ledger, read_ledger
from tests.chaos.processes import ForkServer, Process
from tests.chaos.program import STALL_MS, Config
from tests.chaos.proxy import Cut, Proxy
from tests.support.keyspace import connection_to, read_snapshot
from tests.support.servers import ServerProcess

QUIET_S: Final = 30.0
_UNFINISHED: Final = """
local base, count = KEYS[1], 0
for _, workflow in ipairs(redis.call('SMEMBERS', base .. 'workflows')) do
  for _, status in ipairs({ 'scheduled', 'queued', 'running' }) do
    if workflow ~= 'ticks' then count = count + redis.call('ZCARD', base .. 'idx:' .. status .. ':' .. workflow) end
  end
end
for _, name in ipairs({ 'outbox', 'cascade', 'grants' }) do count = count + redis.call('EXISTS', base .. name) end
return count
"""


@dataclass(slots=True, eq=False)
class Member:
    """A process and the proxy it stands behind."""

    process: Process
    proxy: Proxy


class Scene:
    """A world that is harmed.

    Args:
        server: where it lives.
        fork: starts its processes.
        verbs: names of the scripts, for the proxies.
        prefix: of its keys.
        directory: of its ledger; must be there.
        lease_ms: of its workers.
    """

    def __init__(
        self,
        server: ServerProcess,
        fork: ForkServer,
        verbs: Mapping[str, str],
        prefix: str,
        directory: Path,
        lease_ms: int,
    ) -> None:
        self.server = server
        self.prefix = prefix
        self.lease_ms = lease_ms
        self.ledger = Ledger(directory, "harness")
        self.members: list[Member] = []
        self._fork = fork
        self._verbs = verbs
        self._directory = directory
        self._later: set[asyncio.Task[None]] = set()
        self._starting: set[asyncio.Task[Member]] = set()
        self._redis: Redis = Redis.from_url(server.url, decode_responses=True, encoding_errors="surrogateescape")
        self._keys = Keys.of(prefix)
        self._over = False
        self._probe = asyncio.create_task(self._watch_server())

    # -- processes ----------------------------------------------------------------------------------------------

    async def start(self, config: Config, cut: Cut | None = None) -> Member:
        """Start a process behind a proxy of its own."""
        proxy = Proxy(self.server.port, self._verbs)
        proxy.cut = cut
        port = await proxy.start()
        url = f"redis://127.0.0.1:{port}/0"
        config = replace(config, url=url, prefix=self.prefix, directory=str(self._directory), lease_ms=self.lease_ms)
        member = Member(await self._fork.spawn(config), proxy)
        self.members.append(member)
        return member

    def start_soon(self, config: Config) -> None:
        """Start a process from where nobody can wait for it."""
        self._starting.add(asyncio.ensure_future(self.start(config)))

    def kill(self, member: Member, fault: str = "kill") -> None:
        """SIGKILL."""
        self.ledger.note("fault", fault=fault, pid=member.process.pid)
        member.process.kill()

    def freeze(self, member: Member, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after so many seconds."""
        self.ledger.note("fault", fault="stop", pid=member.process.pid, lasts=seconds * 1000)
        member.process.freeze()
        self.later(seconds, member.process.thaw)

    def reset(self, member: Member) -> int:
        """RST all its connections."""
        self.ledger.note("fault", fault="reset", pid=member.process.pid)
        return member.proxy.reset()

    def later(self, seconds: float, act: object) -> None:
        """Do something after a while."""

        async def wait() -> None:
            await asyncio.sleep(seconds)
            assert callable(act)
            act()

        task = asyncio.ensure_future(wait())
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    async def _watch_server(self) -> None:
        """Tell when the server, or this process with its proxies, does not answer in time: everybody was hit then."""
        while not self._over:
            began = time.monotonic()
            with contextlib.suppress(Exception):
                await self._redis.ping()
            await asyncio.sleep(0.02)
            late_ms = (time.monotonic() - began) * 1000 - 20
            if late_ms > STALL_MS:
                self.ledger.note("stall", pid=0, ms=late_ms + 20)

    # -- the end ------------------------------------------------------------------------------------------------

    async def quiet(self, timeout_s: float = QUIET_S) -> bool:
        """Wait until every run has ended and nothing is under way; False if that takes too long."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            with contextlib.suppress(Exception):
                if not await self._redis.eval(_UNFINISHED, 1, self._keys.base):
                    return True
            await asyncio.sleep(0.02)
        return False

    async def finish(self, *, others_before: frozenset[str] | None = None) -> History:
        """Stop all processes and read what there is; the audit is removed.

        Args:
            others_before: keys of others that were there at the beginning.
        """
        for task in list(self._later):
            task.cancel()
        await asyncio.gather(*self._starting)
        for member in self.members:
            member.proxy.heal()
            member.process.thaw()
            member.process.send(signal.SIGTERM)
        for member in self.members:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(member.process.ended), 10)
            member.process.kill()
            await member.process.ended
            await member.proxy.close()
        self._over = True  # not cancelled: redis-py sometimes swallows that
        await self._probe
        return await self._read(others_before)

    async def _read(self, others_before: frozenset[str] | None) -> History:
        audit = f"audit:{self._keys.base}"
        rows = await self._audit_rows(audit)
        ended_ms = time.time() * 1000
        connection = connection_to(self.server.url)
        connection.limit_silence(60)
        try:
            snapshot = await read_snapshot(connection, self.prefix)
            stats = await _stats(connection, self._keys)
        finally:
            await connection.close()
        await self._redis.delete(audit)
        others_now = await self.others()
        await self._redis.aclose()
        self.ledger.close()
        return History(
            read_ledger(self._directory),
            parse_audit(rows),
            snapshot,
            stats,
            [] if others_before is None else sorted(others_before ^ others_now),
            self.lease_ms,
            ended_ms,
        )

    async def others(self) -> frozenset[str]:
        """The keys that are not of this prefix."""
        return frozenset(str(key) for key in await self._redis.keys("other:*"))

    async def _audit_rows(self, stream: str) -> list[tuple[str, dict[str, str]]]:
        found: list[tuple[str, dict[str, str]]] = []
        first = "-"
        while rows := await self._redis.xrange(stream, first, "+", count=5_000):
            found += [(str(at), {str(k): str(v) for k, v in (fields or {}).items()}) for at, fields in rows]
            first = f"({rows[-1][0]!s}"
        return found

    async def clear(self) -> None:
        """Remove every key of this world; to be called after `finish`."""
        redis = Redis.from_url(self.server.url)
        try:
            keys = [key async for key in redis.scan_iter(match=f"{self.prefix}:*", count=1000)]
            for at in range(0, len(keys), 500):
                await redis.unlink(*keys[at : at + 500])
        finally:
            await redis.aclose()


async def _stats(connection: Connection, keys: Keys) -> dict[str, int]:
    return dict(await _by_status(Queries(connection, keys)))


async def _by_status(queries: Queries) -> dict[str, int]:
    told = await queries.stats()
    return {str(status): count for status, count in told["by_status"].items()}

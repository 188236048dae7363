"""The minimal loop: the least that a durable engine in Python over Redis could do, as the limit to measure by.

Four batched scripts over redis-py with hiredis, nothing else. Create: a record and a push to the queue. Claim: n at a
time. Record and settle: n at a time, all coroutines' writes of one turn of the event loop together. No leases, no
fences, no retries, no indexes, no retention, no checks: a worker that dies loses what it had claimed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Sequence
from typing import Any

import orjson
from redis.asyncio import Redis

from benchmarks.peers.programs import stage, work
from benchmarks.peers.programs.work import Config, Kind, Payload

_BATCH = 100
_IN_FLIGHT = 2

_CREATE = """
local ids = {}
for i = 2, #ARGV, 3 do
  if ARGV[1] == '' then
    redis.call('HSET', 'run:' .. ARGV[i], 'k', ARGV[i + 1], 'i', ARGV[i + 2], 's', 'queued')
  else
    redis.call('HSET', 'run:' .. ARGV[i], 'k', ARGV[i + 1], 'i', ARGV[i + 2], 's', 'queued', 'w', ARGV[1])
  end
  ids[#ids + 1] = ARGV[i]
end
redis.call('RPUSH', KEYS[1], unpack(ids))
if redis.call('DEL', KEYS[2]) == 1 then redis.call('RPUSH', KEYS[3], 1) end
"""

_CLAIM = """
redis.call('DEL', KEYS[3])
local ids = redis.call('LPOP', KEYS[1], ARGV[1])
if not ids then redis.call('SET', KEYS[2], 1) return {} end
local claims = {}
for i, id in ipairs(ids) do
  local run = redis.call('HMGET', 'run:' .. id, 'k', 'i')
  redis.call('HSET', 'run:' .. id, 's', 'running')
  claims[3 * i - 2], claims[3 * i - 1], claims[3 * i] = id, run[1], run[2]
end
return claims
"""

_RECORD = """
for i = 1, #ARGV, 3 do redis.call('HSET', 'run:' .. ARGV[i], ARGV[i + 1], ARGV[i + 2]) end
"""

_SETTLE = """
for i = 1, #ARGV, 2 do
  local key = 'run:' .. ARGV[i]
  redis.call('HSET', key, 's', 'succeeded', 'o', ARGV[i + 1])
  local waiter = redis.call('HGET', key, 'w')
  if waiter then
    redis.call('HDEL', key, 'w')
    redis.call('PUBLISH', waiter, ARGV[i] .. ARGV[i + 1])
  end
end
redis.call('INCRBY', KEYS[1], #ARGV / 2)
"""

_QUEUE, _IDLE, _BELL, _ENDED = "queue", "idle", "bell", "ended"
_ID_LENGTH = 32


class _Batch:
    """One verb: what is added during one turn of the loop travels together, at most so many trips at once."""

    def __init__(self, run: Callable[..., Any], keys: Sequence[str], first: Sequence[object] = ()) -> None:
        self._run, self._keys, self._first = run, keys, first
        self._items: list[tuple[Sequence[object], asyncio.Future[None]]] = []
        self._in_flight = 0
        self._due = False
        self._flying: set[asyncio.Task[None]] = set()

    def add(self, *args: object) -> asyncio.Future[None]:
        """Done when the script has run."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._items.append((args, future))
        if not self._due and self._in_flight < _IN_FLIGHT:
            self._due = True
            loop.call_soon(self._flush)
        return future

    def _flush(self) -> None:
        self._due = False
        while self._items and self._in_flight < _IN_FLIGHT:
            items, self._items = self._items[:_BATCH], self._items[_BATCH:]
            self._in_flight += 1
            task = asyncio.create_task(self._send(items))
            self._flying.add(task)
            task.add_done_callback(self._flying.discard)

    async def _send(self, items: list[tuple[Sequence[object], asyncio.Future[None]]]) -> None:
        try:
            await self._run(keys=self._keys, args=[*self._first, *[arg for args, _ in items for arg in args]])
        except Exception as exc:
            for _, future in items:
                future.set_exception(exc)
        else:
            for _, future in items:
                future.set_result(None)
        self._in_flight -= 1
        if self._items:
            self._flush()


class _Loop:
    """The worker: claims as many as it has room for, calls the functions, records and settles."""

    def __init__(self, settings: Config) -> None:
        self._redis = Redis.from_url(settings.url, max_connections=1000)
        self._claim = self._redis.register_script(_CLAIM)
        self._record = _Batch(self._redis.register_script(_RECORD), [])
        self._settle = _Batch(self._redis.register_script(_SETTLE), [_ENDED])
        self._room = settings.concurrency
        self._least = max(1, settings.concurrency // 5)
        self._concurrency = settings.concurrency
        self._free = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def work(self) -> None:
        """Until it is cancelled."""
        while True:
            while self._room < self._least:
                self._free.clear()
                await self._free.wait()
            claims = await self._claim(keys=[_QUEUE, _IDLE, _BELL], args=[self._room])
            if not claims:
                await self._redis.blpop([_BELL], timeout=0)
                continue
            for at in range(0, len(claims), 3):
                self._room -= 1
                task = asyncio.create_task(self._attempt(claims[at].decode(), claims[at + 1], claims[at + 2]))
                self._tasks.add(task)
                task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._room += 1
        self._free.set()
        task.result()

    async def _attempt(self, run: str, kind: bytes, given: bytes) -> None:
        data = orjson.loads(given)
        output: object
        if kind == b"one":
            output = work.double(data)
            await self._record.add(run, "t:double", orjson.dumps(output))
        else:
            number = data["n"]
            for index in range(work.STEPS_IN_TEN):
                number = work.add_one(number)
                await self._record.add(run, f"t:add-{index}", orjson.dumps(number))
            output = number
        await self._settle.add(run, orjson.dumps(output))


class Client(stage.Client):
    """Creates records; waits on a channel of its own."""

    bulk = 100
    durable = True

    async def open(self) -> None:
        self._redis = Redis.from_url(self.settings.url, max_connections=1000)
        script = self._redis.register_script(_CREATE)
        self._create, self._keys = script, [_QUEUE, _IDLE, _BELL]
        self._channel = f"ends:{os.getpid()}"
        self._plain = _Batch(script, self._keys, [""])
        self._awaited = _Batch(script, self._keys, [self._channel])
        self._ends: dict[str, asyncio.Future[object]] = {}
        self._push = self._redis.pubsub()
        await self._push.subscribe(self._channel)
        self._listening = asyncio.create_task(self._listen())

    async def close(self) -> None:
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)
        await self._push.aclose()
        await self._redis.aclose()

    async def _listen(self) -> None:
        async for message in self._push.listen():
            if message["type"] == "message":
                data = message["data"]
                future = self._ends.pop(data[:_ID_LENGTH].decode(), None)
                if future is not None:
                    future.set_result(orjson.loads(data[_ID_LENGTH:]))

    async def start(self, kind: Kind, data: Payload) -> str:
        run = os.urandom(16).hex()
        await self._plain.add(run, kind, orjson.dumps(data))
        return run

    async def start_many(self, kind: Kind, datas: Sequence[Payload]) -> list[str]:
        runs = [os.urandom(16).hex() for _ in datas]
        args: list[object] = [""]
        for run, data in zip(runs, datas, strict=True):
            args += (run, kind, orjson.dumps(data))
        await self._create(keys=self._keys, args=args)
        return runs

    async def ended(self, started: int) -> int:
        return int(await self._redis.get(_ENDED) or 0)

    async def stored_output(self, run: str) -> object:
        status, output = await self._redis.hmget(f"run:{run}", ["s", "o"])
        if status != b"succeeded":
            raise ValueError(f"{run} is {status!r}")
        return orjson.loads(output)

    async def stored_steps(self, run: str) -> list[object]:
        fields = await self._redis.hgetall(f"run:{run}")
        return [orjson.loads(fields[name]) for name in sorted(fields) if name.startswith(b"t:")]

    async def start_and_wait(self, datas: Sequence[Payload]) -> list[object]:
        """Create runs that tell their end, and wait for all of them."""
        loop = asyncio.get_running_loop()
        futures = []
        for data in datas:
            run = os.urandom(16).hex()
            self._ends[run] = future = loop.create_future()
            futures.append(future)
            self._awaited.add(run, "one", orjson.dumps(data))
        return await asyncio.gather(*futures)

    async def trigger(self, data: Payload) -> tuple[str, object]:
        run = os.urandom(16).hex()
        self._ends[run] = future = asyncio.get_running_loop().create_future()
        await self._awaited.add(run, "one", orjson.dumps(data))
        return run, await future

    async def fan_out(self, datas: Sequence[Payload]) -> Sequence[object]:
        return await self.start_and_wait(datas)


async def _work(settings: Config) -> None:
    working = asyncio.create_task(_Loop(settings).work())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, working.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await working


def _worker(settings: Config) -> None:
    with asyncio.Runner(loop_factory=stage.new_loop(settings.loop)) as runner:
        runner.run(_work(settings))


if __name__ == "__main__":
    stage.main(Client, _worker)

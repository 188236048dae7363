"""Reads records and streams as another program would: with redis-py alone, from the documented layout."""

from __future__ import annotations

import json

from redis.asyncio import Redis


class Raw:
    """The keys of task records, and a stream."""

    def __init__(self, url: str, stream: str) -> None:
        self.redis = Redis.from_url(url, decode_responses=True)
        self.stream = stream

    async def record(self, task_id: str) -> dict[str, str]:
        """The hash."""
        fields = await self.redis.hgetall(f"task:{task_id}")
        return {str(name): str(value) for name, value in fields.items()}

    async def ttl_s(self, task_id: str, suffix: str = "") -> float:
        """What is left of its life; below 0: none."""
        return float(await self.redis.pttl(f"task:{task_id}{suffix}")) / 1000

    async def ops(self, task_id: str) -> list[str]:
        """The operations it remembers."""
        return [str(op) for op in await self.redis.zrange(f"task:{task_id}:ops", 0, -1)]

    async def events(self, task_id: str | None = None) -> list[dict[str, object]]:
        """The stream's entries, of one task or all."""
        told: list[dict[str, object]] = []
        for _, entry in await self.redis.xrange(self.stream) or ():
            fields = {str(name): str(value) for name, value in (entry or {}).items()}
            told.append({**fields, "fields": json.loads(fields["fields"]), "ver": int(fields["ver"])})
        return [fields for fields in told if task_id in (None, fields["uuid"])]

    async def close(self) -> None:
        """Close the connection."""
        await self.redis.aclose()

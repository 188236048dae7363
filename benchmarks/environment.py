"""What a figure depends on: versions, the server with its settings, the machine."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import ResponseError

_PACKAGES: Final = {
    "redflow": "redflow",
    "redis-py": "redis",
    "hiredis": "hiredis",
    "orjson": "orjson",
    "uvloop": "uvloop",
}
_SERVER_SETTINGS: Final = ("save", "appendonly", "appendfsync", "io-threads")


async def describe(redis: Redis, loop: str) -> dict[str, str]:
    """Everything to print above a result, by its name."""
    packages = ", ".join(f"{shown} {_version(name)}" for shown, name in _PACKAGES.items())
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}, event loop {loop}",
        "packages": packages,
        "server": await _server(redis),
        "machine": machine(),
    }


def machine() -> str:
    """What the figures were measured on."""
    return f"{os.cpu_count()} cpus, {_cpu_model()}, {platform.system()} {platform.release()}"


def load_average() -> float:
    """Processes that wanted to run during the last minute."""
    return os.getloadavg()[0]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


async def _server(redis: Redis) -> str:
    facts = await redis.info("server")
    name = str(facts.get("server_name", "redis"))
    told = f"{name} {facts.get(f'{name}_version', facts['redis_version'])}"
    settings: dict[str | None, str | None] = {}
    try:
        for setting in _SERVER_SETTINGS:  # one by one: Redis 6.2 takes no more
            settings |= await redis.config_get(setting)
    except ResponseError:  # hosted servers forbid CONFIG
        return f"{told}, settings unknown"
    if settings.get("appendonly") == "no":
        settings.pop("appendfsync", None)
    return ", ".join([told, *(f"{key} {settings[key] or 'never'}" for key in _SERVER_SETTINGS if key in settings)])


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()

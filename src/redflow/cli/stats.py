"""`redflow stats`: how many runs there are, once or again and again."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Annotated, Final

import typer

from redflow.cli import exits, output
from redflow.cli.asking import Json, ask, told
from redflow.cli.options import Prefix, Url
from redflow.cli.texts import columns, safe
from redflow.client import RedflowClient
from redflow.types import TERMINAL_STATUSES, JsonData, RunStats

_HOME: Final = "\x1b[H\x1b[J"
"""Clears the terminal: what is shown takes the place of what was."""


def stats(
    watch: Annotated[bool, typer.Option("--watch", help="Show it again and again, with rates, until Ctrl-C.")] = False,
    interval: Annotated[float, typer.Option(min=0.1, help="With --watch: seconds between two looks.")] = 2.0,
    count: Annotated[
        int | None, typer.Option(min=1, help="With --watch: how often at most. Default: no limit", show_default=False)
    ] = None,
    as_json: Json = False,
    url: Url = None,
    prefix: Prefix = None,
) -> int:
    """Say how many runs there are by status, and what is paused; with --watch also how many a second end.

    Exit codes: 0 told, 2 no server, 130 Ctrl-C.
    """
    looks = (count if watch else 1) or 0
    return ask(url, prefix, lambda client: _watch(client, looks, interval, as_json))


async def _watch(client: RedflowClient, looks: int, interval_s: float, as_json: bool) -> int:
    before: tuple[float, RunStats] | None = None
    number = 0
    while True:
        found, at = await told(client.get_stats()), time.monotonic()
        rate = None if before is None else (_ended(found) - _ended(before[1])) / (at - before[0])
        _show(found, rate, as_json, clear=looks != 1)
        before, number = (at, found), number + 1
        if number == looks:
            return exits.OK
        await asyncio.sleep(interval_s)


def _ended(found: RunStats) -> int:
    return sum(found["by_status"][status] for status in TERMINAL_STATUSES)


def _show(found: RunStats, rate: float | None, as_json: bool, *, clear: bool) -> None:
    if as_json:
        told: dict[str, JsonData] = dict(found)
        output.json_line(told if rate is None else told | {"ended_per_second": round(rate, 2)})
        return
    if clear and sys.stdout.isatty():
        print(_HOME, end="")
    rows = [(status, f"{count:,}") for status, count in found["by_status"].items()]
    shown = columns(("STATUS", "RUNS"), [*rows, ("total", f"{found['total']:,}")])
    if "paused" in found:
        shown += [safe(f"paused queue: {name}") for name in found["paused"]["queues"]]
        shown += [safe(f"paused workflow: {name}") for name in found["paused"]["workflows"]]
    if rate is not None:
        shown.append(f"ended a second: {rate:,.1f}")
    output.lines(shown)

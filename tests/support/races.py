"""Races of two sides over one run, each judged by every reader: whoever asks must be told the same outcome.

The sides meet at a point that the handler names, then one of them holds back for a moment. How long is learnt from the
races before, so that both sides win; it decides nothing else.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

from redflow import (
    CanceledError,
    RedflowClient,
    RunHandle,
    StartWorkerOptions,
    StepState,
    WorkflowHandlerContext,
    WorkflowRegistry,
    define_workflow,
    start_worker,
)
from redflow.types import ALL_STATUSES, JsonData, ListRunsParams

APP: Final = "races"
TIMEOUT_MS: Final = 100
_SPREAD_S: Final = 0.0015
_STEP_S: Final = 0.0001
_LONGEST_STREAK: Final = 10
_FARTHEST_S: Final = 0.1
_LONG_MS: Final = 60_000
_PAGE: Final = 200


@dataclass(slots=True)
class Meeting:
    """Where the two sides of one race meet.

    Attributes:
        offset_s: how much later than the handler the other side goes on; negative: earlier.
        there: set when the handler is at the point that is raced for.
        over: set when nobody needs the handler to stay awake any more.
    """

    offset_s: float
    there: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def handler_side(self) -> None:
        """Say that the handler is there, and hold back if it is to be the later one."""
        self.there.set()
        await _hold(-self.offset_s)

    async def other_side(self) -> None:
        """Wait for the handler, and hold back if this is to be the later side."""
        await self.there.wait()
        await _hold(self.offset_s)


class Balance:
    """Learns the offset at which each side wins about half of the races."""

    def __init__(self, middle_s: float = 0.0) -> None:
        self._middle_s = middle_s
        self._late = False
        self._streak = 0

    def draw(self) -> float:
        """An offset near the middle, seconds."""
        return self._middle_s + random.uniform(-_SPREAD_S, _SPREAD_S)

    def learn(self, *, came_late: bool) -> None:
        """Move the middle, the farther the longer the same side has won: the other side came too late, or in time."""
        self._streak = min(self._streak + 1, _LONGEST_STREAK) if came_late == self._late else 1
        self._late = came_late
        moved = self._middle_s + (-_STEP_S if came_late else _STEP_S) * self._streak
        self._middle_s = max(-_FARTHEST_S, min(_FARTHEST_S, moved))


@dataclass(slots=True)
class Tally:
    """How the races of one kind went.

    Attributes:
        wins: by side.
        faults: races whose readers did not agree, with what they said.
    """

    wins: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def share(self, side: str) -> float:
        """The part of all races that a side won, 0 to 1."""
        return self.wins[side] / max(1, self.wins.total())


@dataclass(frozen=True, slots=True)
class Sight:
    """What was seen of one race: the outcome that its readers have to agree on, and what each of them says."""

    side: str
    status: str
    output: JsonData
    told: Mapping[str, object]
    wanted: Mapping[str, object]


class Races:
    """The stage of the races: their workflows, and where their sides meet.

    Args:
        client: of the prefix; a worker of this process takes part.
        url: of the server.
    """

    def __init__(self, client: RedflowClient, url: str) -> None:
        self.client = client
        self._url = url
        self._meetings: dict[int, Meeting] = {}
        self._registry = WorkflowRegistry()
        for name, handler in (("wait", self._wait), ("finish", self._finish), ("time-out", self._time_out)):
            define_workflow(name, handler=handler, registry=self._registry, max_attempts=1)

    async def run(self, kind: Kind, n: int, *, at_a_time: int = 50) -> Tally:
        """Race `n` times, so many at a time, and ask all readers about each race."""
        options = StartWorkerOptions(
            app=APP, url=self._url, prefix=self.client.prefix, registry=self._registry, concurrency=2 * at_a_time
        )
        tally, balance, numbers = Tally(), Balance(kind.middle_s), iter(range(n))
        handles: dict[str, str] = {}

        async def racer() -> None:
            for number in numbers:
                meeting = self._meetings[number] = Meeting(balance.draw())
                handle = await self.client.emit_workflow(kind.workflow, {"n": number})
                try:
                    sight = await kind.race(self, number, handle, meeting)
                finally:
                    meeting.over.set()
                balance.learn(came_late=sight.side == kind.when_late)
                tally.wins[sight.side] += 1
                faults = await self._faults(handle, sight)
                if faults:
                    tally.faults.append(f"{kind.name}, race {number} ({handle.id}), {sight.side}: {'; '.join(faults)}")
                handles[handle.id] = sight.status
                del self._meetings[number]

        worker = await start_worker(options)
        try:
            await asyncio.gather(*[racer() for _ in range(min(at_a_time, n))])
        finally:
            await worker.stop()
        tally.faults += await self._listed_otherwise(kind.workflow, handles)
        return tally

    async def _faults(self, handle: RunHandle[JsonData], sight: Sight) -> list[str]:
        """What the readers of one run say against its outcome, and against what the sides were told."""
        state, listed = await asyncio.gather(handle.get_state(), self.client.get_run_attempts(handle.id))
        if state is None:
            return ["the run is gone"]
        told = {**sight.told} | {
            "get_run: status": state["status"],
            "get_run: output": state.get("output"),
            "get_run: has an output": "output" in state,
            "get_run: has a cancel request": "cancel_requested_at" in state,
            "get_run: has an error": "error" in state,
            "get_run_attempts": [trace["status"] for trace in listed],
        }
        done, canceled = sight.status == "succeeded", sight.status == "canceled"
        wanted = {**sight.wanted} | {
            "get_run: status": sight.status,
            "get_run: output": sight.output if done else None,
            "get_run: has an output": done,
            "get_run: has a cancel request": canceled,
            "get_run: has an error": False,
            "get_run_attempts": [sight.status],
        }
        return [f"{what} is {told[what]!r}, not {wanted[what]!r}" for what in wanted if told[what] != wanted[what]]

    async def _listed_otherwise(self, workflow: str, wanted: dict[str, str]) -> list[str]:
        """Runs that list_runs shows with another status, not at all, or twice."""
        listed: Counter[tuple[str, str]] = Counter()
        for status in ALL_STATUSES:
            cursor: str | None = None
            while True:
                params = ListRunsParams(status=status, workflow=workflow, limit=_PAGE, cursor=cursor)
                page = await self.client.list_runs(params)
                for run in page:
                    listed[run["id"], run["status"]] += 1
                if len(page) < _PAGE:
                    break
                cursor = page[-1]["id"]
        expected = Counter(wanted.items())
        return [f"list_runs: {run} as {status}" for run, status in ((listed - expected) + (expected - listed))]

    # -- the handlers -------------------------------------------------------------------------------------------

    async def _wait(self, ctx: WorkflowHandlerContext[dict[str, int]]) -> JsonData:
        number = ctx.input["n"]
        meeting = self._meetings.get(number)
        if meeting is not None and not meeting.there.is_set():
            await meeting.handler_side()
        return await ctx.step.wait_for_event("event", "raced", f"key {number}", _LONG_MS)

    async def _finish(self, ctx: WorkflowHandlerContext[dict[str, int]]) -> JsonData:
        number = ctx.input["n"]
        value = await ctx.step.run("work", _work, number)
        await self._meetings[number].handler_side()
        return value

    async def _time_out(self, ctx: WorkflowHandlerContext[dict[str, int]]) -> JsonData:
        """Every other run stays awake, so that its worker ends the wait by a timer of its own."""
        number = ctx.input["n"]
        meeting = self._meetings[number]
        meeting.there.set()
        awake = asyncio.ensure_future(meeting.over.wait()) if number % 2 else None
        wait = asyncio.ensure_future(ctx.step.wait_for_event("event", "raced", f"key {number}", TIMEOUT_MS))
        try:
            await asyncio.wait([wait, awake] if awake else [wait], return_when=asyncio.FIRST_COMPLETED)
            return await wait
        finally:
            if awake:
                awake.cancel()
                with suppress(asyncio.CancelledError):
                    await awake


# --- the races ------------------------------------------------------------------------------------------------------


async def _emit_against_wait(races: Races, number: int, handle: RunHandle[JsonData], meeting: Meeting) -> Sight:
    """The event comes before the wait (which then looks back at it) or after it (and resumes the run)."""
    await meeting.other_side()
    sight = await _emitted(races.client, number, handle)
    # Whoever comes first, the run gets the event: it was emitted after the run was created, and in time.
    wanted = {**sight.wanted} | {"result: data": number}
    side = "wait first" if sight.told["emit: resumed"] else "emit first"
    return replace(sight, side=side, wanted=wanted)


async def _timeout_against_event(races: Races, number: int, handle: RunHandle[JsonData], meeting: Meeting) -> Sight:
    """The event comes in time and resumes the run, or too late, and then never."""
    await meeting.there.wait()
    deadline_ms = await _deadline(races.client, handle)
    await _hold(deadline_ms / 1000 - time.time() + meeting.offset_s)
    sight = await _emitted(races.client, number, handle)
    # Nobody looks back here: the run waited before the event came, so it was resumed by it, or not at all.
    wanted = {**sight.wanted} | {"emit: resumed": [handle.id] if sight.side == "event first" else []}
    return replace(sight, wanted=wanted)


async def _cancel_against_finish(races: Races, number: int, handle: RunHandle[JsonData], meeting: Meeting) -> Sight:
    """The cancel comes while the run is at it, or finds it finished."""
    await meeting.other_side()
    changed = await races.client.cancel_run(handle.id, reason="raced")
    result: JsonData
    try:
        result = await handle.result()
    except CanceledError as exc:
        result = str(exc)
    steps = await races.client.get_run_steps(handle.id)
    told = {
        "result": result,
        "get_run_steps": _short(steps),
        "cancel_run once more": await races.client.cancel_run(handle.id),
    }
    wanted = {
        "result": "Run canceled: raced" if changed else 2 * number,
        "get_run_steps": [("work", "succeeded", 2 * number)],
        "cancel_run once more": False,
    }
    side, status = ("cancel first", "canceled") if changed else ("finish first", "succeeded")
    return Sight(side, status, 2 * number, told, wanted)


async def _emitted(client: RedflowClient, number: int, handle: RunHandle[JsonData]) -> Sight:
    """Emit the event of a race and ask everybody what became of it."""
    emitted = await client.emit_event_detailed("raced", number, correlation_key=f"key {number}")
    result = await handle.result()
    event, steps = await asyncio.gather(client.get_event(emitted["event_id"]), client.get_run_steps(handle.id))
    got = result is not None
    resumed = emitted["resumed_run_ids"]
    told = {
        "emit: resumed": resumed,
        "get_event: resumed": event["resumed_run_ids"] if event else None,
        "result: event": result["id"] if got else None,
        "result: data": result["data"] if got else None,
        "get_run_steps": _short(steps),
        "get_run_steps: resolved by": [step["wait"].get("resolved_by") for step in steps if "wait" in step],
    }
    ended = [emitted["event_id"], number] if got else [None, None]
    wanted = {
        "get_event: resumed": resumed,
        "result: event": ended[0],
        "result: data": ended[1],
        "get_run_steps": [("event", "succeeded", result)],
        "get_run_steps: resolved by": ["event" if got else "timeout"],
    }
    return Sight("event first" if got else "timeout first", "succeeded", result, told, wanted)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of race.

    Attributes:
        name: of the kind.
        workflow: whose runs are raced for.
        sides: who may win.
        when_late: who wins when the other side comes late.
        middle_s: the offset to begin with.
        race: does one race.
    """

    name: str
    workflow: str
    sides: tuple[str, str]
    when_late: str
    middle_s: float
    race: Callable[[Races, int, RunHandle[JsonData], Meeting], Awaitable[Sight]]


KINDS: Final = (
    Kind("emit against wait", "wait", ("emit first", "wait first"), "wait first", 0.0, _emit_against_wait),
    Kind(
        "cancel against finish", "finish", ("cancel first", "finish first"), "finish first", 0.0, _cancel_against_finish
    ),
    Kind(
        "timeout against event",
        "time-out",
        ("timeout first", "event first"),
        "timeout first",
        0.0,
        _timeout_against_event,
    ),
)


async def _deadline(client: RedflowClient, handle: RunHandle[JsonData]) -> int:
    """When the wait of a run is over, epoch ms, as soon as it is open; 0 if that is missed, and it is over already."""
    while True:
        for step in await client.get_run_steps(handle.id):
            if "wait" in step:
                return step.get("wait_until_at", 0)
        await asyncio.sleep(0.002)


async def _work(number: int) -> int:
    return 2 * number


async def _hold(seconds: float) -> None:
    if seconds > 0:
        await asyncio.sleep(seconds)


def _short(steps: list[StepState]) -> list[tuple[str, str, JsonData]]:
    return [(step["name"], step["status"], step.get("output")) for step in steps]

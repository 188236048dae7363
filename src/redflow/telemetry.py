"""What can be observed of redflow: a catalogue of events, and where they go.

With REDFLOW_LOG=1 each event is one JSON line on stdout, and the logger "redflow" logs from DEBUG on. A program may
add a listener of its own. When nobody listens an event costs one look at an empty list.

Lines carry ids, names, numbers and error kinds; never payloads.
"""

from __future__ import annotations

import logging
import re
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Final

import orjson

RUN_CREATED: Final = "run.created"
RUN_CLAIMED: Final = "run.claimed"
RUN_SETTLED: Final = "run.settled"
RUN_LOST: Final = "run.lost"
RUN_CANCEL_REQUESTED: Final = "run.cancel_requested"
RUNS_RECOVERED: Final = "runs.recovered"
RUNS_POISONED: Final = "runs.poisoned"
RUNS_PROMOTED: Final = "runs.promoted"
RUNS_TIMED_OUT: Final = "runs.timed_out"
CRON_TICK: Final = "cron.tick"
STEP_ENDED: Final = "step.ended"
WORKER_STARTED: Final = "worker.started"
WORKER_STOPPED: Final = "worker.stopped"

EVENTS: Final[Mapping[str, str]] = {
    RUN_CREATED: "a client accepted a run: run_id, workflow",
    RUN_CLAIMED: "a worker took a run: run_id, workflow, attempt",
    RUN_SETTLED: "an attempt ended: run_id, workflow, attempt, outcome",
    RUN_LOST: "a worker lost its lease: run_id, workflow, attempt",
    RUN_CANCEL_REQUESTED: "a client asked to cancel a run: run_id, changed",
    RUNS_RECOVERED: "runs of dead workers were taken back: count",
    RUNS_POISONED: "runs fail since they killed their holders: count",
    RUNS_PROMOTED: "scheduled runs became ready: count",
    RUNS_TIMED_OUT: "runs fail since their time-out passed: count",
    CRON_TICK: "a cron trigger fired or skipped a tick: trigger, tick, outcome (fired or skipped), run_id",
    STEP_ENDED: "a step ended: run_id, step, status, attempt",
    WORKER_STARTED: "a worker claims: worker, app, queues, concurrency",
    WORKER_STOPPED: "a worker has stopped: worker",
}
"""Every event there is, with the fields it carries."""

Field = str | int | float | bool | None | list[str]
Listener = Callable[[str, Mapping[str, Field]], None]

_listeners: list[Listener] = []


def listen(listener: Listener) -> Callable[[], None]:
    """Call `listener(event, fields)` for each event, on the thread where it happens; it must be quick.

    Returns:
        A function that ends it.

    Example:
        >>> stop = listen(lambda event, fields: print(event, dict(fields)))
        >>> stop()
    """
    _listeners.append(listener)

    def stop() -> None:
        if listener in _listeners:
            _listeners.remove(listener)

    return stop


def anybody_listens() -> bool:
    """Whether an event would reach anybody: a look before its fields are put together on a hot path."""
    return bool(_listeners)


def emit(event: str, **fields: Field) -> None:
    """Tell the listeners; a listener that raises is logged and does no harm."""
    for listener in _listeners:
        try:
            listener(event, fields)
        except Exception:
            logging.getLogger("redflow").exception("a telemetry listener raised")


def print_lines(event: str, fields: Mapping[str, Field]) -> None:
    """A listener that writes one JSON line a event on stdout."""
    line = orjson.dumps({"event": event, "ts": int(time.time() * 1000), **fields})
    sys.stdout.write(line.decode() + "\n")
    sys.stdout.flush()


class EscapeControls(logging.Filter):
    """Writes control characters in log lines as escapes: what comes from elsewhere can't forge lines or colours.

    Tracebacks keep their line breaks and lose the rest.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record where there is something to escape; let every record pass."""
        try:
            message = record.getMessage()
        except (TypeError, ValueError):
            return True  # logging itself says what is wrong with it
        if _CONTROLS.search(message):
            record.msg, record.args = _CONTROLS.sub(_escaped, message), None
        if record.exc_info and record.exc_info[1] is not None and not record.exc_text:
            text = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
            if _CONTROLS_BUT_BREAKS.search(text):
                record.exc_text = _CONTROLS_BUT_BREAKS.sub(_escaped, text)
        return True


_CONTROLS: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_CONTROLS_BUT_BREAKS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def _escaped(found: re.Match[str]) -> str:
    return ascii(found[0])[1:-1]


logging.getLogger("redflow").addFilter(EscapeControls())


def enable_debug_log() -> None:
    """What REDFLOW_LOG=1 asks for."""
    logger = logging.getLogger("redflow")
    logger.setLevel(logging.DEBUG)
    if not logger.handlers and not logging.getLogger().handlers:
        logger.addHandler(logging.StreamHandler())
    if print_lines not in _listeners:
        _listeners.append(print_lines)

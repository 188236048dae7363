"""What a command and its worker processes say to each other, over a socket: one JSON object a line.

The command first sends the `WorkerSettings`, later orders ("stop", "now"). It tells them here and not on the
command line, since everybody may read those and a URL may hold a password. The worker process reports what became
of it. When the socket ends, the other side is gone.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Final, Literal

Order = Literal["stop", "now"]
"""stop: claim nothing more, let runs end within the grace period, hand back the rest. now: hand them back at once."""

Reason = Literal["unknown_module", "broken_module", "no_workflows", "refused", "no_server"]
"""Why there is no worker: there is no such module; importing it failed; it defines nothing; redflow refuses a
definition or an option; the server can't be used."""


@dataclass(frozen=True, slots=True)
class ModuleName:
    """A module to import.

    Attributes:
        name: dotted name.
        root: directory that must be on sys.path for it, when it was given as a path; else None.
        file: the file it must be, when it was given as a path; else None.
    """

    name: str
    root: str | None = None
    file: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """How a worker process runs.

    Attributes:
        modules: to import; their workflows are served.
        app: name of the application.
        url: of the server; None means REDIS_URL, else redis://localhost:6379.
        prefix: of all keys; None means REDFLOW_PREFIX, else "redflow:v1".
        queues: queues to serve; None means those of the workflows.
        concurrency: runs at a time.
        lease_ms: length of a lease, ms.
        grace_ms: how long runs may go on after "stop", ms.
        log_level: lowest level that is logged: debug, info, warning or error.
    """

    modules: list[ModuleName]
    app: str
    url: str | None = None
    prefix: str | None = None
    queues: list[str] | None = None
    concurrency: int = 10
    lease_ms: int = 5000
    grace_ms: int = 10_000
    log_level: str = "info"

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> WorkerSettings:
        """The settings that `to_json` wrote."""
        fields = json.loads(line)
        modules = [ModuleName(**module) for module in fields.pop("modules")]
        return cls(modules=modules, **fields)


@dataclass(frozen=True, slots=True)
class Loaded:
    """The modules were imported, or failed to be.

    Attributes:
        directories: where the source of what was imported stands, this machine's Python and packages left out.
    """

    directories: list[str]


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker claims.

    Attributes:
        server: what to call the server; without password.
        workflows: names of the workflows it serves.
        queues: scoped names of the queues it serves.
    """

    server: str
    workflows: list[str]
    queues: list[str]


@dataclass(frozen=True, slots=True)
class NotStarted:
    """There is no worker, and the process ends.

    Attributes:
        reason: the sort of obstacle.
        text: one line that says what it is.
        detail: more of it, such as the traceback of a broken module; may be empty.
    """

    reason: Reason
    text: str
    detail: str = ""


Report = Loaded | Ready | NotStarted
"""What a worker process says."""

_KINDS: Final[dict[str, type[Loaded] | type[Ready] | type[NotStarted]]] = {
    "loaded": Loaded,
    "ready": Ready,
    "not_started": NotStarted,
}


def report_to_json(report: Report) -> str:
    """One line of JSON."""
    kind = next(name for name, cls in _KINDS.items() if isinstance(report, cls))
    return json.dumps({"kind": kind} | asdict(report))


def report_from_json(line: str) -> Report:
    """The report that `report_to_json` wrote."""
    fields = json.loads(line)
    return _KINDS[fields.pop("kind")](**fields)

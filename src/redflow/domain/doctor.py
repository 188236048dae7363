"""What a server's own words mean for the runs on it: what would be lost now, and what is to be put right. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from redflow.types import DoctorFinding, DoctorReport

FIXED_IN: Final[Mapping[str, Mapping[tuple[int, int], int]]] = {
    "redis": {(6, 2): 20, (7, 2): 11, (7, 4): 6, (8, 0): 4, (8, 2): 2},
    "valkey": {(7, 2): 11, (8, 0): 6, (8, 1): 4},
}
"""By server and series the first release without CVE-2025-49844 (a script can take over the server)."""

_NEEDED_BYTES: Final = 64 * 1024 * 1024
_NEARLY_FULL: Final = 0.8
_SKEW_NOTED_MS: Final = 1_000
_SKEW_WARNED_MS: Final = 60_000


@dataclass(slots=True)
class ServerFacts:
    """What a server told, or did not want to tell.

    Attributes:
        address: what to call it; without password.
        info: the fields of INFO; None if it may not be asked.
        config: the settings of CONFIG GET; None if it may not be asked.
        version: of HELLO; empty if unknown.
        server: "redis" or "valkey".
        time_ms: its clock in the middle of a call, epoch ms.
        here_ms: this machine's clock at that time, epoch ms.
        trip_ms: how long the call took, ms.
        denied: commands that this user may not use, though redflow needs them, with what the server said.
    """

    address: str
    info: Mapping[str, str] | None
    config: Mapping[str, str] | None
    version: str
    server: str
    time_ms: int | None = None
    here_ms: int = 0
    trip_ms: float = 0.0
    denied: Mapping[str, str] = field(default_factory=dict)


def diagnose(facts: ServerFacts) -> DoctorReport:
    """The report on one server."""
    findings = [finding for check in _CHECKS for finding in check(facts)]
    version = _version(facts)
    return {
        "server": facts.address,
        "version": f"{_name(facts)} {version}" if version else "unknown",
        "losses": _losses(facts),
        "findings": findings,
        "unseen": [
            f"{command} (this user may not use it): {what}"
            for command, given, what in (
                ("INFO", facts.info, "persistence, replicas, memory and exact version"),
                ("CONFIG", facts.config, "fsync policy, snapshots and min-replicas-to-write"),
            )
            if given is None
        ],
        "healthy": all(finding["level"] == "note" for finding in findings),
    }


# --- what would be lost -----------------------------------------------------------------------------------------


def _losses(facts: ServerFacts) -> dict[str, str]:
    process, machine = _process_loss(facts), _machine_loss(facts)
    return {"server process dies": process, "machine dies": machine, "disk or server is gone": _disk_loss(facts)}


def _process_loss(facts: ServerFacts) -> str:
    if facts.info is None:
        return "unknown: INFO may not be asked"
    if facts.info.get("aof_enabled") == "1":
        if _fsync(facts) == "always":
            return "nothing"
        return "nothing, as long as the disk keeps up with the log; else what it had not taken yet"
    return _snapshot_loss(facts)


def _machine_loss(facts: ServerFacts) -> str:
    if facts.info is None:
        return "unknown: INFO may not be asked"
    if facts.info.get("aof_enabled") != "1":
        return _snapshot_loss(facts)
    return {
        "always": "nothing, if the disk honours fsync",
        "everysec": "up to 2 seconds of changes",
        "no": "what the operating system had not written yet, often 30 seconds of changes",
    }.get(
        _fsync(facts), "up to 2 seconds of changes with appendfsync everysec, nothing with always (not visible which)"
    )


def _snapshot_loss(facts: ServerFacts) -> str:
    assert facts.info is not None
    saves = None if facts.config is None else facts.config.get("save", "")
    changes, saved_at = _int(facts.info, "rdb_changes_since_last_save"), _int(facts.info, "rdb_last_save_time")
    if saves == "":
        return "EVERYTHING: there is no persistence"
    ago = "" if facts.time_ms is None else f" {max(0, facts.time_ms // 1000 - saved_at)} s ago"
    unsure = ", if snapshots are made at all (CONFIG is not visible)" if saves is None else ""
    return f"{changes} changes since the snapshot{ago}{unsure}"


def _disk_loss(facts: ServerFacts) -> str:
    if facts.info is None:
        return "unknown: INFO may not be asked"
    replicas = list(_replicas(facts.info))
    online = [replica for replica in replicas if replica.get("state") == "online"]
    if not online:
        return "EVERYTHING: no replica is connected" if not replicas else "EVERYTHING: no replica is in step"
    behind = min(_int(facts.info, "master_repl_offset") - _int(replica, "offset") for replica in online)
    return (
        f"what {len(online)} replica{'s have' if len(online) > 1 else ' has'} not taken yet: {max(0, behind)} bytes now"
    )


# --- what is to be put right ------------------------------------------------------------------------------------


def _role(facts: ServerFacts) -> Iterator[DoctorFinding]:
    if facts.info is not None and facts.info.get("role") == "slave":
        yield _problem("role", "this server is a replica: it takes no writes", "give redflow the master's URL")


def _access(facts: ServerFacts) -> Iterator[DoctorFinding]:
    for command, said in facts.denied.items():
        yield _problem(
            "access",
            f"this user may not use {command}: {said}",
            "ACL SETUSER <user> ~<prefix>* resetchannels &<prefix>* +@all -@dangerous -@admin",
        )


def _policy(facts: ServerFacts) -> Iterator[DoctorFinding]:
    policy = _setting(facts, "maxmemory-policy", "maxmemory_policy")
    if policy and policy != "noeviction":
        yield _problem(
            "eviction",
            f"maxmemory-policy is {policy}: a full server removes the state of your runs",
            "CONFIG SET maxmemory-policy noeviction",
        )


def _persistence(facts: ServerFacts) -> Iterator[DoctorFinding]:
    info = facts.info
    if info is None:
        return
    if info.get("aof_enabled") == "1":
        if _fsync(facts) == "no":
            yield _warning("fsync", "appendfsync is no: the log is written when the system likes",
                           "CONFIG SET appendfsync everysec")  # fmt: skip
        if info.get("aof_last_write_status", "ok") != "ok":
            yield _problem("fsync", "the last write of the log failed: the server refuses writes", "look at its disk")
        if info.get("aof_last_bgrewrite_status", "ok") != "ok":
            yield _warning("fsync", "the last rewrite of the log failed: it grows without bound", "look at its disk")
        return
    saves = None if facts.config is None else facts.config.get("save", "")
    if saves == "":
        yield _problem("persistence", "there is no persistence: a restart of the server loses every run",
                       "CONFIG SET appendonly yes, and in its configuration file")  # fmt: skip
    else:
        yield _warning("persistence", "only snapshots are made: a restart loses what happened since the last one",
                       "CONFIG SET appendonly yes, and in its configuration file")  # fmt: skip
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        yield _problem("persistence", "the last snapshot failed; the server may refuse writes", "look at its disk")


def _replication(facts: ServerFacts) -> Iterator[DoctorFinding]:
    if facts.info is None or facts.info.get("role") == "slave":
        return
    replicas = list(_replicas(facts.info))
    if not replicas:
        yield _note("replica", "no replica: the disk of this server is the only copy", "add one, if that is too little")
        return
    for replica in replicas:
        if replica.get("state") != "online":
            yield _warning("replica", f"replica {replica.get('ip')}:{replica.get('port')} is not in step "
                           f"({replica.get('state')})", "look at its log")  # fmt: skip
    if facts.config is not None and facts.config.get("min-replicas-to-write", "0") == "0":
        yield _note("replica", "min-replicas-to-write is 0: a master that is cut off goes on taking writes, and loses "
                    "them", "CONFIG SET min-replicas-to-write 1")  # fmt: skip


def _memory(facts: ServerFacts) -> Iterator[DoctorFinding]:
    if facts.info is None:
        return
    limit, used = _int(facts.info, "maxmemory"), _int(facts.info, "used_memory")
    if limit == 0:
        yield _note("memory", "maxmemory is not set: a full machine kills the server, a limit only refuses new runs",
                    "CONFIG SET maxmemory, with room to spare")  # fmt: skip
    elif used >= limit * _NEARLY_FULL:
        yield _warning("memory", f"{used * 100 // limit} % of maxmemory is used: a full server refuses new runs",
                       "raise maxmemory, or shorten the retention")  # fmt: skip
    elif limit < _NEEDED_BYTES:
        yield _warning("memory", f"maxmemory is only {limit} bytes: {limit // 2048} short runs or so",
                       f"raise it to {_NEEDED_BYTES} at least")  # fmt: skip


def _holes(facts: ServerFacts) -> Iterator[DoctorFinding]:
    version = _version(facts)
    numbers = [int(part) for part in re.findall(r"\d+", version)[:3]]
    if len(numbers) < 3:
        return
    series, fixed = (numbers[0], numbers[1]), FIXED_IN[facts.server]
    if series > max(fixed) or numbers[2] >= fixed.get(series, 1 << 30):
        return
    first = ", ".join(f"{a}.{b}.{fixed[a, b]}" for a, b in sorted(fixed))
    yield _warning(
        "version",
        f"{_name(facts)} {version} has CVE-2025-49844: whoever may run scripts can take the server over",
        f"update to one of {first} or newer, unless your distribution has patched this one",
    )


def _clock(facts: ServerFacts) -> Iterator[DoctorFinding]:
    if facts.time_ms is None:
        return
    skew = abs(facts.time_ms - facts.here_ms)
    if skew <= facts.trip_ms / 2 + _SKEW_NOTED_MS:
        return
    text = f"the clocks of the server and of this machine differ by {skew / 1000:.1f} s; redflow goes by the server's"
    make = _warning if skew > _SKEW_WARNED_MS else _note
    yield make("clock", text, "synchronise both (NTP): run_at is told by this machine's clock")


_CHECKS: Final = (_role, _access, _policy, _persistence, _replication, _memory, _holes, _clock)


def _problem(check: str, text: str, remedy: str) -> DoctorFinding:
    return {"check": check, "level": "problem", "text": text, "remedy": remedy}


def _warning(check: str, text: str, remedy: str) -> DoctorFinding:
    return {"check": check, "level": "warning", "text": text, "remedy": remedy}


def _note(check: str, text: str, remedy: str) -> DoctorFinding:
    return {"check": check, "level": "note", "text": text, "remedy": remedy}


def _name(facts: ServerFacts) -> str:
    return "Valkey" if facts.server == "valkey" else "Redis"


def _version(facts: ServerFacts) -> str:
    own = None if facts.info is None else facts.info.get(f"{facts.server}_version")
    return own or facts.version


def _fsync(facts: ServerFacts) -> str:
    return "" if facts.config is None else facts.config.get("appendfsync", "")


def _setting(facts: ServerFacts, setting: str, field: str) -> str:
    if facts.config is not None and setting in facts.config:
        return facts.config[setting]
    return "" if facts.info is None else facts.info.get(field, "")


def _replicas(info: Mapping[str, str]) -> Iterator[dict[str, str]]:
    for name, value in info.items():
        if re.fullmatch(r"slave\d+", name):
            yield dict(part.split("=", 1) for part in value.split(",") if "=" in part)


def _int(fields: Mapping[str, str], name: str) -> int:
    value = fields.get(name, "")
    return int(value) if value.isdigit() else 0

"""Imports everything once and forks a process for each order it reads: ten milliseconds instead of half a second.

usage: python -m tests.chaos.forkserver        (with the patched sources first in PYTHONPATH)

In: lines {"id": 7, "config": {...}} of orders. Out: {"id": 7, "pid": 123}, and {"dead": 123, "status": -9} of each end.
When its input ends it kills what is left of its children.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import sys
import traceback
from pathlib import Path

from tests.chaos.program import Config, run


def serve() -> None:
    """Until the end of the input."""
    wake_out, wake_in = os.pipe()
    for end in (wake_out, wake_in):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_in, warn_on_full_buffer=False)
    gc.freeze()  # what is there now is shared by all children
    children: set[int] = set()
    buffer = b""
    while True:
        ready, _, _ = select.select([0, wake_out], [], [])
        if wake_out in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(wake_out, 4096)
            _reap(children)
        if 0 not in ready:
            continue
        data = os.read(0, 65_536)
        if not data:
            break
        *lines, buffer = (buffer + data).split(b"\n")
        for line in lines:
            order = json.loads(line)
            pid = os.fork()
            if pid == 0:
                _be_child(order, (wake_out, wake_in))
            children.add(pid)
            _say({"id": order["id"], "pid": pid})
    for pid in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _reap(children: set[int]) -> None:
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            children.discard(pid)
            _say({"dead": pid, "status": os.waitstatus_to_exitcode(status)})


def _be_child(order: dict[str, object], pipes: tuple[int, int]) -> None:
    code = 70
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for end in pipes:
            os.close(end)
        fields = order["config"]
        assert isinstance(fields, dict)
        config = Config(**fields)
        null = os.open(os.devnull, os.O_RDONLY)
        log = os.open(Path(config.directory, f"{os.getpid()}.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for source, target in ((null, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        code = run(config)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _say(message: dict[str, int]) -> None:
    os.write(1, (json.dumps(message) + "\n").encode())


if __name__ == "__main__":
    serve()

"""One line in five seconds speaks for all duties while a server is out of reach; other errors are all told."""

from __future__ import annotations

import logging

import pytest

from redflow.engines.redis.complaints import Complaints
from redflow.errors import ConnectionError, RedflowError


def test_only_the_first_of_many_complaints_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "redflow")
    complaints = Complaints()
    for duty in ("claiming", "recovering"):
        complaints.tell(duty + " failed: %s", ConnectionError("can't reach it"))
    for _ in range(2):
        complaints.tell("shard %d: %s", 3, RedflowError("refused"))
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "claiming failed: can't reach it"),
        ("DEBUG", "recovering failed: can't reach it"),
        ("WARNING", "shard 3: refused"),
        ("WARNING", "shard 3: refused"),
    ]

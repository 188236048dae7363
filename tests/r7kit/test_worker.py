"""R7Worker without an engine's help: what it says, and what it refuses."""

from __future__ import annotations

import logging

import pytest

from r7kit import config
from r7kit.exceptions import TemporalNotConnected
from r7kit.worker import R7Worker


@pytest.fixture
def nowhere(settings: config.Settings) -> None:
    config.configure(temporal_address="127.0.0.1:1")


@pytest.mark.usefixtures("nowhere")
async def test_it_says_what_it_serves(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "r7kit")
    with pytest.raises(TemporalNotConnected, match=r"127\.0\.0\.1:1"):
        await R7Worker("tests.r7kit.packages.good", queue="good-queue").run()
    assert "serves Good, Deep, Plain, helps, plain_activity" in caplog.text
    assert "Deep is started on queue 'deep-queue'" in caplog.text
    assert "Good is started" not in caplog.text


@pytest.mark.usefixtures("nowhere")
async def test_it_warns_when_there_is_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(TemporalNotConnected):
        await R7Worker("tests.r7kit.packages.empty").run()
    assert "serves nothing" in caplog.text


def test_bad_arguments() -> None:
    for arguments, error in (
        ({"queue": ""}, ValueError),
        ({"redis_url": "http://x"}, ValueError),
        ({"temporal_address": "x"}, ValueError),
        ({"engine": "other"}, ValueError),
        ({"concurrency": 0}, ValueError),
        ({"concurrency": True}, ValueError),
    ):
        with pytest.raises(error, match=next(iter(arguments))):
            R7Worker("tests", **arguments)
    with pytest.raises(ValueError, match="package"):
        R7Worker("")

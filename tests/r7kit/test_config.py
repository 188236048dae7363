"""Settings: configure > environment > file > default."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from r7kit import config
from r7kit.config import Settings, configure, current


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable in ("REDIS_URL", "TEMPORAL_ADDRESS", "TEMPORAL_API_KEY", "TEMPORAL_TLS", "TEMPORAL_NAMESPACE"):
        monkeypatch.delenv(variable, raising=False)
    for variable in ("R7KIT_ENGINE", "R7KIT_STREAM", "R7KIT_DELETED_TTL", "R7KIT_TASK_TTL", "R7KIT_STREAM_MAXLEN"):
        monkeypatch.delenv(variable, raising=False)
    config.reset()
    yield tmp_path
    config.reset()


def test_defaults() -> None:
    assert current() == Settings(
        redis_url="redis://localhost:6379",
        temporal_address="localhost:7233",
        stream_default="task_events",
        deleted_ttl=3600,
        engine="temporal",
        temporal_namespace="default",
        temporal_api_key=None,
        temporal_tls=False,
        task_ttl=604_800,
        stream_maxlen=100_000,
    )


def test_precedence(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / ".r7kit.toml").write_text('deleted_ttl = 1\ntask_ttl = 1\nengine = "redflow"\n', "utf-8")
    monkeypatch.setenv("R7KIT_TASK_TTL", "2")
    monkeypatch.setenv("R7KIT_ENGINE", "temporal")
    configure(engine="redflow")
    assert (current().deleted_ttl, current().task_ttl, current().engine) == (1, 2, "redflow")


def test_the_readme_call() -> None:
    configure(
        redis_url="redis://localhost:6379",
        temporal_address="localhost:7233",
        stream_default="task_events",
        deleted_ttl=60,
    )
    assert current().deleted_ttl == 60
    configure(stream_default="other")
    assert (current().deleted_ttl, current().stream_default) == (60, "other")


def test_the_environment_is_read_at_use_and_never_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", "one:1")
    assert current().temporal_address == "one:1"
    monkeypatch.setenv("TEMPORAL_ADDRESS", "two:2")
    assert current().temporal_address == "two:2"
    configure(temporal_address="three:3")
    import os

    assert os.environ["TEMPORAL_ADDRESS"] == "two:2"


def test_an_api_key_turns_tls_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_API_KEY", "SECRET")
    assert current().temporal_tls
    assert "SECRET" not in repr(current())
    monkeypatch.setenv("TEMPORAL_TLS", "off")
    assert not current().temporal_tls


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("redis_url", "http://x"),
        ("redis_url", ""),
        ("redis_url", "redis://:SECRET@x:99999"),
        ("temporal_address", "nowhere"),
        ("temporal_address", "x:0"),
        ("temporal_address", "x:y"),
        ("stream_default", " "),
        ("deleted_ttl", -1),
        ("deleted_ttl", 1.5),
        ("deleted_ttl", True),
        ("engine", "other"),
        ("temporal_namespace", ""),
        ("temporal_tls", "yes"),
        ("task_ttl", 0),
        ("stream_maxlen", 0),
    ],
)
def test_bad_values_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name) as caught:
        configure(**{name: value})  # type: ignore[arg-type]
    assert "SECRET" not in str(caught.value)
    assert current() == Settings()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("R7KIT_DELETED_TTL", "soon"),
        ("R7KIT_ENGINE", "other"),
        ("TEMPORAL_TLS", "maybe"),
        ("TEMPORAL_ADDRESS", "x"),
        ("REDIS_URL", "nowhere"),
    ],
)
def test_a_bad_environment_is_named(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=variable):
        current()


@pytest.mark.parametrize("text", ["engine = ", "colour = 1", 'deleted_ttl = "1"'])
def test_a_bad_file_is_named(home: Path, text: str) -> None:
    (home / ".r7kit.toml").write_text(text, "utf-8")
    with pytest.raises(ValueError, match=r"\.r7kit\.toml"):
        current()


def test_a_file_that_is_a_directory_is_named(home: Path) -> None:
    (home / ".r7kit.toml").mkdir()
    with pytest.raises(ValueError, match=r"\.r7kit\.toml"):
        current()

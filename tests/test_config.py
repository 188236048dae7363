"""What the environment says, and what wins over it."""

from __future__ import annotations

import base64
import json
import math
from pathlib import Path

import pytest

from redflow import config, create_client
from redflow.codec import AesGcmCodec

THIRTY_DAYS_MS = 30 * 86_400_000


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("URL", "PREFIX", "APP", "RUN_RETENTION_DAYS", "SHARDS", "LOG", "CODEC_KEYS", "CODEC_KEYS_FILE"):
        monkeypatch.delenv(f"REDFLOW_{name}", raising=False)
    monkeypatch.delenv("REDIS_URL", raising=False)


def test_prefix_is_read_at_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    assert config.default_prefix() == "redflow:v1"
    monkeypatch.setenv("REDFLOW_PREFIX", "shop")
    assert config.default_prefix() == "shop"
    monkeypatch.setenv("REDFLOW_PREFIX", "")
    assert config.default_prefix() == "redflow:v1"


def test_an_explicit_prefix_wins_even_when_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDFLOW_PREFIX", "shop")
    assert config.resolve_prefix("mine") == "mine"
    assert config.resolve_prefix("") == ""
    assert config.resolve_prefix(None) == "shop"


def test_app_is_stripped_and_blank_means_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert config.app_from_env() is None
    monkeypatch.setenv("REDFLOW_APP", "  billing ")
    assert config.app_from_env() == "billing"
    assert config.resolve_app(" shop ") == "shop"
    assert config.resolve_app("  ") == "billing"
    assert config.resolve_app(None) == "billing"
    monkeypatch.setenv("REDFLOW_APP", "   ")
    assert config.app_from_env() is None
    assert config.resolve_app(None) is None


def test_url_argument_over_environment_over_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert config.redis_url() == "redis://localhost:6379"
    monkeypatch.setenv("REDIS_URL", "redis://cache:6380/2\n")
    assert config.redis_url() == "redis://cache:6380/2"
    assert config.redis_url("unix:///run/redis.sock") == "unix:///run/redis.sock"
    assert config.redis_url("") == ""  # for the parser to refuse
    monkeypatch.setenv("REDIS_URL", "  ")
    assert config.redis_url() == "redis://localhost:6379"


@pytest.mark.parametrize(("value", "expected"), [(1, 1), (1500.9, 1500), (10**400, 10**400), (1e15, 10**15)])
def test_a_positive_retention_is_used(monkeypatch: pytest.MonkeyPatch, value: float, expected: int) -> None:
    monkeypatch.setenv("REDFLOW_RUN_RETENTION_DAYS", "7")
    assert config.resolve_retention_ms(value) == expected


@pytest.mark.parametrize("value", [None, True, 0, -5, -0.5, math.nan, math.inf, -math.inf])
def test_any_other_retention_leaves_it_to_the_environment(monkeypatch: pytest.MonkeyPatch, value: float | None) -> None:
    assert config.resolve_retention_ms(value) == THIRTY_DAYS_MS
    monkeypatch.setenv("REDFLOW_RUN_RETENTION_DAYS", " 0.5 ")
    assert config.resolve_retention_ms(value) == 43_200_000


@pytest.mark.parametrize("text", ["", "soon", "0", "-1", "nan", "inf", "-inf", "1e400"])
def test_an_unusable_retention_in_the_environment_means_thirty_days(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("REDFLOW_RUN_RETENTION_DAYS", text)
    assert config.resolve_retention_ms() == THIRTY_DAYS_MS


def test_a_fraction_of_a_millisecond_is_rounded_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDFLOW_RUN_RETENTION_DAYS", "0.000000025")  # 2.16 ms
    assert config.resolve_retention_ms() == 2


@pytest.mark.parametrize(("text", "expected"), [("1", True), ("0", False), ("true", False), ("", False)])
def test_only_a_one_turns_logging_on(monkeypatch: pytest.MonkeyPatch, text: str, *, expected: bool) -> None:
    monkeypatch.setenv("REDFLOW_LOG", text)
    assert config.log_enabled() is expected


def test_logging_is_off_by_default() -> None:
    assert config.log_enabled() is False


def test_one_shard_is_the_default_and_an_argument_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    assert config.shards() == 1
    assert config.shards(1) == 1
    monkeypatch.setenv("REDFLOW_SHARDS", " 1 ")
    assert config.shards() == 1
    monkeypatch.setenv("REDFLOW_SHARDS", "4")
    assert config.shards() == 4
    assert config.shards(1) == 1
    assert config.shards(256) == 256
    with pytest.raises(ValueError, match=r"^shards must be at most 256, got 257$"):
        config.shards(257)
    monkeypatch.setenv("REDFLOW_SHARDS", "257")
    with pytest.raises(ValueError, match=r"^REDFLOW_SHARDS must be at most 256, got '257'$"):
        config.shards()


@pytest.mark.parametrize("text", ["many", "0", "-1", "1.0", "+1", "1_0", "²"])
def test_shards_that_are_no_number_are_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("REDFLOW_SHARDS", text)
    with pytest.raises(ValueError, match=r"^REDFLOW_SHARDS must be a whole number of 1 or more, got "):
        config.shards()


@pytest.mark.parametrize("n", [0, -1, True])
def test_an_argument_of_shards_that_is_no_count_is_refused(n: int) -> None:
    with pytest.raises(ValueError, match=r"^shards must be a whole number of 1 or more, got "):
        config.shards(n)


def test_codec_keys_come_from_a_variable_or_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert config.codec_keys() is None
    monkeypatch.setenv("REDFLOW_CODEC_KEYS", " {} ")
    assert config.codec_keys() == ("{}", "REDFLOW_CODEC_KEYS")
    keys = tmp_path / "keys.json"
    monkeypatch.setenv("REDFLOW_CODEC_KEYS_FILE", str(keys))
    with pytest.raises(ValueError, match="both set"):
        config.codec_keys()
    monkeypatch.delenv("REDFLOW_CODEC_KEYS")
    with pytest.raises(ValueError, match=r"keys\.json can't be read \(FileNotFoundError\)"):
        config.codec_keys()
    keys.write_text('{"secret": 1}')
    assert config.codec_keys() == ('{"secret": 1}', f"the file {keys} of REDFLOW_CODEC_KEYS_FILE")
    keys.write_bytes(b"\xffsecret")
    with pytest.raises(ValueError, match="UnicodeDecodeError") as caught:
        config.codec_keys()
    assert "secret" not in str(caught.value)


def test_a_client_takes_its_codec_from_the_environment_unless_it_is_given_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert create_client().codec is None
    key = base64.b64encode(b"k" * 32).decode()
    monkeypatch.setenv("REDFLOW_CODEC_KEYS", json.dumps({"current": "env", "keys": {"env": key}}))
    assert repr(create_client().codec) == "AesGcmCodec(keys=['env'], current='env', blinds=False)"
    given = AesGcmCodec(keys={"given": b"g" * 32}, current="given")
    assert create_client(codec=given).codec is given
    monkeypatch.setenv("REDFLOW_CODEC_KEYS", key)
    with pytest.raises(ValueError, match="REDFLOW_CODEC_KEYS is no JSON") as caught:
        create_client()
    assert key not in str(caught.value)

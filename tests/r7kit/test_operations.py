"""What is decided about a task without asking Redis."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from r7kit.models import TaskModel
from r7kit.operations import (
    MAX_FIELDS,
    TaskChanges,
    Written,
    applied,
    changes_between,
    check_delete_ttl,
    check_patch,
    check_payload,
    check_task_id,
    field_names,
)


def test_a_patch_has_status_payload_and_attributes() -> None:
    changes = check_patch({"status": "done", "payload": {"a": (1, 2), "status": "x", "uuid": 1}, "owner": {"id": 7}})
    assert changes == TaskChanges("done", {"a": [1, 2], "status": "x", "uuid": 1}, [], {"owner": {"id": 7}})
    assert field_names(changes) == ["status", "payload.a", "payload.status", "payload.uuid", "attr.owner"]


@pytest.mark.parametrize(
    ("patch", "error", "text"),
    [
        ({}, ValueError, "must not be empty"),
        (None, TypeError, "must be a mapping"),
        ({"payload": [1]}, TypeError, "payload must be a mapping"),
        ({"payload": None}, TypeError, "payload must be a mapping"),
        ({"status": 3}, ValueError, "status"),
        ({"status": ""}, ValueError, "status must not be blank"),
        ({"payload": {"a": {1}}}, TypeError, r"payload is not JSON at \$\.a: set"),
        ({"owner": float("nan")}, ValueError, "attribute 'owner' is not JSON"),
        ({1: 2}, ValueError, "attribute name"),
        *(({name: 1}, ValueError, "kept by the record") for name in ("uuid", "created_at", "updated_at", "ver")),
        ({"deleted_at": None}, ValueError, "kept by the record"),
        ({"payload": dict.fromkeys(map(str, range(MAX_FIELDS + 1)))}, ValueError, "at most 10000"),
    ],
)
def test_bad_patches_are_refused(patch: object, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        check_patch(patch)


def test_payload_keys_become_text_as_in_json() -> None:
    assert check_payload({1: "a", None: "b"}) == {"1": "a", "null": "b"}
    assert check_payload(None) == {}


@pytest.mark.parametrize("task_id", ["", " ", "a\nb", "x" * 256, "a:ops", 3, None])
def test_task_ids_that_could_not_be_keys_are_refused(task_id: object) -> None:
    with pytest.raises(ValueError, match="task uuid"):
        check_task_id(task_id)


@pytest.mark.parametrize("ttl", [-1, 1.5, True, "5", 10**12])
def test_a_delete_ttl_is_whole_seconds(ttl: object) -> None:
    with pytest.raises(ValueError, match="ttl must be a whole number of seconds"):
        check_delete_ttl(ttl)


def test_changes_between_are_key_by_key_and_by_type() -> None:
    before = {"same": {"a": 1, "b": 2}, "gone": 1, "type": 1, "deep": [{"x": 1}]}
    after = {"same": {"b": 2, "a": 1}, "type": 1.0, "deep": [{"x": 2}], "new": None}
    changes = changes_between(before, after)
    assert changes == TaskChanges(None, {"type": 1.0, "deep": [{"x": 2}], "new": None}, ["gone"])
    assert type(changes.payload["type"]) is float
    assert changes_between(before, before).empty


def test_a_patch_is_shown_as_it_was_written() -> None:
    at = datetime(2024, 1, 1, tzinfo=UTC)
    task = TaskModel(uuid="t", status="new", created_at=at, updated_at=at, ver=1, payload={"a": 1, "b": 2})
    changes = TaskChanges("done", {"c": 3}, ["a"], {"owner": "x"})
    after = applied(task, changes, Written(2, "2024-01-01T00:00:01.500+00:00"))
    assert after.payload == {"b": 2, "c": 3}
    assert (after.status, after.ver, after.attributes) == ("done", 2, {"owner": "x"})
    assert after.updated_at == datetime(2024, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC)
    assert task.payload == {"a": 1, "b": 2}

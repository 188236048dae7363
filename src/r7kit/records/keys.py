"""The layout of the task records: every key and every field.

| key | type | what it holds |
|---|---|---|
| `task:<uuid>` | hash | the record, see below |
| `task:<uuid>:ops` | sorted set | operations applied lately, by the version each made; at most 500 |
| `task_events` (configured) | stream | one entry a change |

An entry of the stream: `event` (created, patched, deleted), `uuid`, `ver`, `at`, `fields`, `status`.

Fields of the record: `uuid`, `status`, `created_at`, `updated_at`, `ver`; `deleted_at` after deletion; `payload.<key>`
for each top-level key of the payload and `attr.<name>` for each attribute, written by `r7kit.serializer.dumps`; and
`starting`, the operation that wrote it, while its flow is yet to be started.
"""

from __future__ import annotations

from typing import Final

META_FIELDS: Final = ("uuid", "status", "created_at", "updated_at", "ver", "deleted_at")
"""What is read of every record."""

OPS_TTL_S: Final = 600
"""For how long the operations of a deleted task are remembered at least, seconds: a lost reply is asked for again."""


def task_key(task_id: str) -> str:
    """The record of a task."""
    return f"task:{task_id}"


def ops_key(task_id: str) -> str:
    """The operations applied to it lately."""
    return f"task:{task_id}:ops"

"""The task record as a model."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field

from redflow.types import JsonData


class TaskModel(BaseModel):
    """A task as it was when it was read; nothing here follows later changes.

    Attributes:
        uuid: its id.
        status: a word of the flow's own, such as "processing".
        created_at: when it was created, UTC.
        updated_at: when it was last changed, UTC.
        ver: how many changes it has seen, the creation included.
        deleted_at: when it was deleted, UTC; None while it is not.
        payload: the flow's data, JSON.
        attributes: what else was put on the task, JSON.
    """

    uuid: str
    status: str
    created_at: datetime
    updated_at: datetime
    ver: int
    deleted_at: datetime | None = None
    payload: dict[str, JsonData] = Field(default_factory=dict)
    attributes: dict[str, JsonData] = Field(default_factory=dict)

    @property
    def exists(self) -> bool:
        """Whether it has not been deleted."""
        return self.deleted_at is None

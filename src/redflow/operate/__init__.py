"""What operators do: `client.operate`, `.queues`, `.workflows`, `.schedules` and `.workers`."""

from __future__ import annotations

from redflow.operate.bulk import BulkJob
from redflow.operate.queues import QueueOperations
from redflow.operate.runs import RunOperations
from redflow.operate.schedules import ScheduleOperations
from redflow.operate.workers import WorkerOperations
from redflow.operate.workflows import WorkflowOperations

__all__ = [
    "BulkJob",
    "QueueOperations",
    "RunOperations",
    "ScheduleOperations",
    "WorkerOperations",
    "WorkflowOperations",
]

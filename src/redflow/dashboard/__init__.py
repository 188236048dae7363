"""The dashboard: a web application that shows runs, and acts on them where that is allowed.

`redflow dashboard` and `redflow dev` serve it; `dashboard(client)` mounts it in an ASGI application of yours.
"""

from __future__ import annotations

from redflow.dashboard.app import dashboard
from redflow.dashboard.ports import Task, TaskChange, TaskSource

__all__ = ["Task", "TaskChange", "TaskSource", "dashboard"]

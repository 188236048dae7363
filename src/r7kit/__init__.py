"""Task flows: a class per workflow, with a task record in Redis that anything can read while the flow runs.

The same class runs on Temporal (the default engine) or on redflow's own engine. Everything is imported from submodules;
importing connects to nothing. `r7kit.sleep` is at hand here because every flow may need it.
"""

from __future__ import annotations

from r7kit.workflow_utils import sleep

__all__ = ["sleep"]

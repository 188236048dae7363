"""Workflow definitions and where they are kept."""

from __future__ import annotations

from redflow._registry import (
    WorkflowRegistry,
    __unstable_reset_default_registry_for_tests,
    get_default_registry,
)
from redflow.definitions import WorkflowDefinition, WorkflowHandlerContext, define_workflow, workflow

__all__ = [
    "WorkflowDefinition",
    "WorkflowHandlerContext",
    "WorkflowRegistry",
    "__unstable_reset_default_registry_for_tests",
    "define_workflow",
    "get_default_registry",
    "workflow",
]

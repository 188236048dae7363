"""What a worker finds in a package."""

from __future__ import annotations

import pytest

from r7kit.discovery import discover
from r7kit.runtime import WorkerPlan
from r7kit.runtimes.temporal.server import served

PACKAGES = "tests.r7kit.packages"


def test_a_package_is_searched_to_its_ends() -> None:
    found = discover(f"{PACKAGES}.good")
    assert [flow.name for flow in found.flows] == ["Good", "Deep"]
    assert [(flow.queue, flow.default_queue) for flow in found.flows] == [
        ("good-queue", "good-queue"),
        (None, "deep-queue"),
    ]
    assert [activity.name for activity in found.activities] == ["helps"]


def test_plain_workflows_of_temporalio_are_served_too() -> None:
    found = discover(f"{PACKAGES}.good")
    plan = WorkerPlan("q", found.flows, found.activities, found.members)
    assert [cls.__name__ for cls in served(plan).workflows] == ["Good", "Deep", "Plain"]
    assert [fn.__name__ for fn in served(plan).activities] == ["helps", "plain_activity"]


@pytest.mark.parametrize(
    ("package", "says"),
    [
        (f"{PACKAGES}.nowhere", "no module 'tests.r7kit.packages.nowhere'"),
        (f"{PACKAGES}.broken", "broken.bad: RuntimeError: this module is broken"),
    ],
)
def test_what_cannot_be_imported_is_named(package: str, says: str) -> None:
    with pytest.raises(ImportError, match=says):
        discover(package)


def test_two_flows_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match=r"two flows are called 'Same': .*twice\.Same and .*twice\.other\.Same"):
        discover(f"{PACKAGES}.twice")

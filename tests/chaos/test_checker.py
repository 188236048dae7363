"""The checker finds each break of each invariant in a history made by hand, and nothing in a good one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.chaos.checker import RULES, Counts, Quotas, check, vacuity
from tests.chaos.facts import THROTTLE
from tests.chaos.made import LEASE_MS, Made, run_id

Bend = Callable[[Made], None]


def good() -> Made:
    """A history in which nothing is wrong, and in which a holder dies."""
    made = Made()
    made.whole(1, output=[1])
    run = made.accept(2)
    made.claim(run)
    made.begin(run, "one")
    made.told("fault", fault="kill", lasts=0)
    made.recover(run)
    made.claim(run, 2, "v", attempt=None)
    made.step(run, "one", 2, fence=2, pid=2, worker="v")
    made.settle(run, writer="2 v.2")
    return made


def test_a_good_history_breaks_nothing() -> None:
    verdict = check(good().history())
    assert [str(violation) for violation in verdict.violations] == []
    assert {"1", "2", "3", "4", "5", "6", "7", "15", "16", "23"} <= set(verdict.examined)


def ends_twice(made: Made) -> None:
    made.settle(made.whole(3), "failed", writer="")


def client_hears_something_else(made: Made) -> None:
    made.told("result", pid=9, run=made.whole(3, output=[1]), status="succeeded", output=[2])


def never_ends(made: Made) -> None:
    made.accept(3)


def is_gone(made: Made) -> None:
    del made.records[made.whole(3)]


def ends_too_late(made: Made) -> None:
    run = made.accept(3)
    made.claim(run)
    made.at += 40_000
    made.settle(run)


def begins_after_its_commit(made: Made) -> None:
    run = made.accept(3)
    made.claim(run)
    made.step(run, "one", 3)
    made.begin(run, "one")
    made.settle(run)


def output_changes(made: Made) -> None:
    run = made.accept(3)
    made.claim(run)
    made.step(run, "one", 3)
    made.commit(run, "one", 4)
    made.settle(run)


def is_never_committed(made: Made) -> None:
    run = made.accept(3)
    made.claim(run)
    made.told("end", run=run, step="one", attempt=1, fence=1)
    made.settle(run)


def lease_of_a_healthy_worker_is_taken(made: Made) -> None:
    made.at += 60_000
    run = made.accept(3)
    made.claim(run)
    made.recover(run)
    made.claim(run, 2, "v", attempt=None)
    made.settle(run, writer="2 v.2")


def body_begins_twice_without_a_reason(made: Made) -> None:
    run = made.accept(3)
    made.claim(run)
    made.begin(run, "one")
    made.settle(run, "scheduled")
    made.script("promote_runs", ("status", run, "queued", ""))
    made.claim(run, 2, attempt=2)
    made.begin(run, "one", 2)
    made.settle(run, writer="2 w.2")


def two_hold_it(made: Made) -> None:
    run = made.accept(3)
    made.claim(run)
    made.claim(run, 2, "v", attempt=None)
    made.settle(run, writer="2 v.2")


def is_taken_before_its_time(made: Made) -> None:
    run = made.accept(3)
    made.claim(run)
    made.told("fault", fault="kill")
    made.script("recover_runs", ("without k", run))
    made.claim(run, 2, "v", attempt=None)
    made.settle(run, writer="2 v.2")


def one_fence_in_two_processes(made: Made) -> None:
    run = made.accept(3)
    made.claim(run)
    made.begin(run, "one")
    made.begin(run, "two", pid=2)
    made.settle(run)


def stale_commit(made: Made) -> None:
    run = made.accept(3)
    made.claim(run)
    made.told("fault", fault="stop", lasts=500)
    made.recover(run)
    made.claim(run, 2, "v", attempt=None)
    made.commit(run, "one", 3, "1 w.1")
    made.settle(run, writer="2 v.2")


def stale_begin(made: Made) -> None:
    run = made.accept(3)
    made.claim(run)
    made.told("fault", fault="reset")
    made.recover(run)
    made.claim(run, 2, "v", attempt=None)
    made.at += 1_000
    made.begin(run, "two", 1)
    made.settle(run, writer="2 v.2")


def begins_past_its_deadline(made: Made) -> None:
    run = made.accept(3)
    made.claim(run)
    made.begin(run, "one", left=-5)
    made.settle(run)


def canceled_and_succeeded(made: Made) -> None:
    run = made.accept(3)
    made.claim(run)
    made.script("cancel_run", ("cancel", run, str(made.at)))
    made.settle(run)


def goes_on_after_its_cancel(made: Made) -> None:
    run = made.accept(3)
    made.claim(run)
    made.script("cancel_run", ("cancel", run, str(made.at)))
    made.at += LEASE_MS + 2_000
    made.begin(run, "one")
    made.settle(run, "canceled")


def one_key_two_runs(made: Made) -> None:
    for number in (3, 4):
        made.op("start", workflow="plain", input={"n": 3}, key="k", run=made.whole(number))


def one_order_two_runs(made: Made) -> None:
    made.whole(3)
    made.records[run_id(4)] = dict(made.records[run_id(3)])
    made.records[made.whole(5)]["i"] = made.records[run_id(3)]["i"]
    del made.records[run_id(4)]


def two_inside_a_mutex(made: Made) -> None:
    for number in (3, 4):
        run = made.accept(number, "mutex", key="k")
        made.claim(run)
        made.script("admit_run", ("mutex", run, "k", ""), ("admitted", run, "1", ""))
    for number in (3, 4):
        made.settle(run_id(number))


def bodies_overlap_in_a_mutex(made: Made) -> None:
    made.at += 60_000
    for number in (3, 4):
        made.told("enter", pid=number - 2, run=made.whole(number), key="k", fence=1)
    for number in (3, 4):
        made.told("leave", pid=number - 2, run=run_id(number), key="k", fence=1)


def event_without_its_subscriber(made: Made) -> None:
    made.op("emit", name="news", data={"n": 7}, event="e", resumed=[], runs=[])
    made.create(7, "sub-a")
    made.claim(run_id(7))
    made.settle(run_id(7))


def event_with_one_run_too_many(made: Made) -> None:
    for number in (3, 4):
        run = made.create(number, "sub-a")
        made.records[run]["i"] = '{"n":7}'
        made.claim(run)
        made.settle(run)


def throttle_window_overflows(made: Made) -> None:
    for number in range(3, 4 + THROTTLE[0]):
        run = made.accept(number, "throttled", key="k")
        made.claim(run)
        made.script("admit_run", ("admitted", run, "1", ""))
        made.at -= 50
        made.settle(run)


def debounce_has_an_old_input(made: Made) -> None:
    run = made.whole(3, "debounced", key="k")
    made.op("start", workflow="debounced", input={"n": 4, "key": "k"}, key=None, run=run)


def starts_before_its_time(made: Made) -> None:
    run = made.accept(3)
    made.claim(run)
    made.script("settle_runs", ("due", run, str(made.at + 5_000), ""), ("status", run, "scheduled", "1 w.1"))
    made.script("promote_runs", ("status", run, "queued", ""))
    made.claim(run, 2, attempt=2)
    made.settle(run, writer="2 w.2")


def tick_fires_twice(made: Made) -> None:
    for number in (3, 4):
        run = made.create(number, "ticks")
        made.script("fire_cron", ("tick ft", "c" * 32, "5000"), ("tick fr", "c" * 32, run))
        made.claim(run)
        made.settle(run)


def tick_is_missing(made: Made) -> None:
    for number, tick in ((3, "5000"), (4, "8000")):
        run = made.create(number, "ticks")
        made.script("fire_cron", ("tick ft", "c" * 32, tick), ("tick fr", "c" * 32, run))
        made.claim(run)
        made.settle(run)


def parent_gets_something_else(made: Made) -> None:
    parent = made.whole(3, "parent", output=[3, ["x"]])
    run = made.create(4, "child", parent=3, k=0)
    made.claim(run)
    made.settle(run, output=["y"])
    assert parent


def child_is_there_twice(made: Made) -> None:
    made.whole(3, "parent", output=[3, ["x"]])
    for number in (4, 5):
        run = made.create(number, "child", parent=3, k=0)
        made.claim(run)
        made.settle(run, output="x")


def wait_is_decided_twice(made: Made) -> None:
    run = made.accept(3, "event", timeout_ms=5)
    made.claim(run)
    for first in ("E", "T"):
        made.script("record_steps", ("step", run, "wait", "Re", "1", first * 40, "1 w.1", first))
    made.settle(run)


def wait_contradicts_its_event(made: Made) -> None:
    run = made.whole(3, "event", output=None, timeout_ms=5)
    made.key("resumed:e", "set", {run})


def cancel_does_not_reach_a_child(made: Made) -> None:
    run = made.accept(3)
    made.script("cancel_run", ("cancel", run, "1"), ("status", run, "canceled", ""))
    made.records[run] |= {"s": "canceled", "f": str(made.at), "cr": "1"}
    made.create(4, "child", parent=3)
    made.op("cancel", run=run, done=True)


def lease_remains(made: Made) -> None:
    made.key("leases", "zset", {made.whole(3): 5.0})


def record_differs_from_the_audit(made: Made) -> None:
    made.records[made.whole(3)]["s:one"] = "1 Sr 1 0 5 99"


def acknowledged_and_never_written(made: Made) -> None:
    made.op("start", workflow="plain", input={"n": 3}, key=None, run=run_id(3))


def epoch_goes_back(made: Made) -> None:
    made.script("renew_leases", ("epoch", "", "7"))
    made.script("renew_leases", ("epoch", "", "6"))


def fence_is_given_out_again(made: Made) -> None:
    run = made.accept(3)
    made.claim(run)
    made.settle(run, "scheduled")
    made.script("promote_runs", ("status", run, "queued", ""))
    made.claim(run, 1, attempt=2)
    made.settle(run)


def accepted_and_not_found(made: Made) -> None:
    made.op("read", run=made.whole(3), found=False)


def refused_and_there(made: Made) -> None:
    made.whole(3)
    made.op("start", "fail", workflow="plain", input={"n": 3}, key=None, error="QueueFullError")


def failure_is_not_handled(made: Made) -> None:
    run = made.accept(3, "fails")
    made.claim(run)
    made.settle(run, "failed")


def dies_again_and_again(made: Made) -> None:
    run = made.accept(3)
    for fence in range(1, 8):
        made.claim(run, fence, attempt=1 if fence == 1 else None)
        made.told("fault", fault="kill")
        made.recover(run)
    made.claim(run, 8, attempt=None)
    made.settle(run, writer="8 w.8")


def attempt_is_left_out(made: Made) -> None:
    run = made.accept(3)
    made.claim(run, attempt=2)
    made.settle(run)


def death_costs_an_attempt(made: Made) -> None:
    made.records[made.whole(3)]["a"] = "2"


def too_many_run_at_once(made: Made) -> None:
    for number in (3, 4, 5):
        made.claim(made.accept(number, "limited"))
    for number in (3, 4, 5):
        made.settle(run_id(number))


def more_runs_than_slots(made: Made) -> None:
    for entry in made.ledger:
        if entry.kind == "up":
            entry.data["concurrency"] = 1
    made.ledger[:] = [entry for entry in made.ledger if entry.kind != "fault"]
    for number in (3, 4):
        made.claim(made.accept(number))
    for number in (3, 4):
        made.settle(run_id(number))


def somebody_elses_key(made: Made) -> None:
    made.foreign.append("other:k")


def counts_are_wrong(made: Made) -> None:
    made.stats = {"succeeded": 99}


def times_are_kept_too_late(made: Made) -> None:
    made.at += 60_000
    run = made.accept(3, "sleep")
    made.claim(run)
    made.script("settle_runs", ("due", run, str(made.at), ""), ("status", run, "scheduled", "1 w.1"))
    made.at += 700
    made.script("promote_runs", ("status", run, "queued", ""))
    made.claim(run, 2, attempt=None)
    made.settle(run, writer="2 w.2")


def later_one_is_claimed_first(made: Made) -> None:
    first, second = made.accept(3), made.accept(4)
    for run in (second, first):
        made.claim(run)
        made.settle(run)


def list_has_lost_a_number(made: Made) -> None:
    made.whole(3, "append", output=[3], list="l")
    made.whole(4, "append", output=[4], list="l")


def list_has_a_number_twice(made: Made) -> None:
    made.whole(3, "append", output=[3, 3], list="l")


def lists_are_in_two_orders(made: Made) -> None:
    made.whole(3, "append", output=[4, 3], list="l")
    made.whole(4, "append", output=[3, 5, 4], list="l")


def place_in_a_list_was_taken(made: Made) -> None:
    made.whole(3, "append", output="4", list="l")


BENDS: tuple[tuple[str, Bend], ...] = (
    ("1", ends_twice), ("1", client_hears_something_else), ("2", never_ends), ("2", is_gone), ("2", ends_too_late),
    ("3", begins_after_its_commit), ("3", output_changes), ("3", is_never_committed),
    ("4", lease_of_a_healthy_worker_is_taken), ("4", body_begins_twice_without_a_reason), ("5", two_hold_it),
    ("5", is_taken_before_its_time), ("5", one_fence_in_two_processes), ("6", stale_commit), ("7", stale_begin),
    ("7", begins_past_its_deadline), ("7b", canceled_and_succeeded), ("7b", goes_on_after_its_cancel),
    ("8", one_key_two_runs), ("8", one_order_two_runs), ("9", two_inside_a_mutex), ("9", bodies_overlap_in_a_mutex),
    ("10", event_without_its_subscriber), ("10", event_with_one_run_too_many), ("11", throttle_window_overflows),
    ("11b", debounce_has_an_old_input), ("12", starts_before_its_time), ("13", tick_fires_twice),
    ("13", tick_is_missing), ("14", parent_gets_something_else), ("14", child_is_there_twice),
    ("14b", wait_is_decided_twice), ("14b", wait_contradicts_its_event), ("14c", cancel_does_not_reach_a_child),
    ("15", lease_remains), ("16", record_differs_from_the_audit), ("16", acknowledged_and_never_written),
    ("17", epoch_goes_back), ("17", fence_is_given_out_again), ("18", accepted_and_not_found),
    ("19", refused_and_there), ("20", failure_is_not_handled), ("20", dies_again_and_again),
    ("21", attempt_is_left_out), ("21", death_costs_an_attempt), ("22", too_many_run_at_once),
    ("22", more_runs_than_slots), ("23", somebody_elses_key), ("24", counts_are_wrong),
    ("12", times_are_kept_too_late), ("12", later_one_is_claimed_first), ("25", list_has_lost_a_number),
    ("25", list_has_a_number_twice), ("25", lists_are_in_two_orders), ("25", place_in_a_list_was_taken),
)  # fmt: skip


@pytest.mark.parametrize(("number", "bend"), BENDS, ids=[f"{number}-{bend.__name__}" for number, bend in BENDS])
def test_a_bent_history_breaks_the_invariant_by_its_name(number: str, bend: Bend) -> None:
    made = good()
    bend(made)
    verdict = check(made.history())
    assert number in verdict.broken, [str(violation) for violation in verdict.violations]


def test_an_operation_that_was_cut_off_may_have_happened() -> None:
    """A client was killed after the server had its order and before it could tell of the answer."""
    made = good()
    run = made.accept(3, "debounced")
    made.at += 100
    made.claim(run)
    made.settle(run)
    made.records[run]["i"] = '{"n":4,"key":"k"}'
    assert check(made.history()).broken == {"11b"}
    made.told("invoke", pid=9, op=77, what="start", workflow="debounced", input={"n": 4, "key": "k"}, key=None)
    assert check(made.history()).broken == set()


def test_every_invariant_is_bent() -> None:
    assert {rule.number for rule in RULES} == {number for number, _ in BENDS}


def test_a_history_that_proves_nothing_is_told() -> None:
    counts = Counts()
    made = good()
    made.told("fault", fault="stop", lasts=0)
    made.told("play", primitive="plain")
    counts.add(made.history())
    assert vacuity(counts, Quotas(faults={"kill": 1, "stop": 1}, primitives={"plain": 1}, runs=2, steps=2)) == []
    assert vacuity(counts, Quotas(faults={"kill": 2})) == ["fault kill: 1 times, at least 2 are wanted"]
    assert vacuity(counts, Quotas(primitives={"cron": 1})) == ["primitive cron: 0 times, at least 1 are wanted"]
    assert vacuity(counts, Quotas(runs=3, steps=3)) == [
        "2 runs, at least 3 are wanted",
        "2 steps, at least 3 are wanted",
    ]
    made.op("start", "info", workflow="plain", input={"n": 5})
    counts.add(made.history())
    assert vacuity(counts, Quotas()) == ["4 of 5 operations were ok; at least 95% should be"]

"""The judge of the demo: clean evidence passes, and each planted violation is found and named."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from examples.orders.effects import EffectsFile
from examples.orders.evidence import Difference, expected_bodies
from examples.orders.judge import Verdict
from examples.orders.rules import ORDER_RULES, RULES
from examples.orders.shop import Books
from examples.orders.stage import KillPlan, read_orders
from examples.orders.story import CHECKS, later_steps
from tests.e2e.demo_scene import COOLING_OFF_MS, FIRST, SECOND, Line, Scene, scene, whole_body
from tests.e2e.demo_violations import VIOLATIONS, rerun_after_commit


def rules(verdict: Verdict) -> set[tuple[str, str]]:
    return {(difference.rule, difference.order) for difference in verdict.differences}


def test_clean_evidence_passes_and_is_counted() -> None:
    verdict = scene().judge()
    assert verdict.differences == ()
    assert {c.outcome: (c.orders, c.runs, c.charged, c.mailed, c.right) for c in verdict.outcomes} == {
        "fulfilled": (5, 5, 5, 5, 5),
        "invalid": (1, 1, 0, 0, 1),
        "unknown_item": (1, 1, 0, 0, 1),
        "out_of_stock": (1, 1, 0, 0, 1),
        "suspicious": (0, 0, 0, 0, 0),
    }
    by_step = {c.step: (c.orders, c.bodies, c.retried, c.cut, c.after_commit) for c in verdict.steps}
    assert by_step["stock"] == (6, 7, 0, 1, 0)
    assert by_step["charge"] == (5, 7, 1, 1, 0)
    assert by_step["mail"] == (5, 5, 0, 0, 0)
    assert (verdict.in_flight, verdict.taken_over, verdict.kept) == (2, 4, 4 + 4 + 1 + 2 + 4 + 1)


def test_a_doubtful_body_that_was_stored_after_all_is_kept() -> None:
    play = scene()
    at = play.index("begin", "doubtful", "charge", last=True)
    play.lines[at : at + 3] = [Line("kept", SECOND, "doubtful", "charge", 1, "digest of charge")]
    play.bank = [request for request in play.bank if request.key != "doubtful" or request.done]
    assert play.judge().passed


def test_a_planned_failure_may_be_cut_before_it_is_recorded() -> None:
    play = scene()
    play.order("again", busy_bank=True)
    play.insert(
        play.index("kill"),
        Line("pass", FIRST, "again", attempt=1),
        *(Line(what, FIRST, "again", step, 1, "d") for step in CHECKS for what in whole_body()),
        Line("begin", FIRST, "again", "charge", 1),
        Line("failed", FIRST, "again", "charge", 1, "RetryAfterError"),
    )
    play.start(SECOND, "again")
    play.lines += [Line("kept", SECOND, "again", step, 1, "d") for step in CHECKS]
    play.step(SECOND, "again", "charge", fails="RetryAfterError")
    play.start(SECOND, "again", 2)
    play.lines += [Line("kept", SECOND, "again", step, 2, "d") for step in CHECKS]
    play.step(SECOND, "again", "charge", 2)
    play.start(SECOND, "again", 2)
    play.lines[-1].pause_ms = COOLING_OFF_MS
    play.kept(SECOND, "again", "charge", "cooling-off", attempt=2)
    play.step(SECOND, "again", "mail", 2)
    play.told("again")
    assert play.judge().differences == ()


@pytest.mark.parametrize(("plant", "named"), VIOLATIONS, ids=lambda value: getattr(value, "__name__", None))
def test_a_planted_violation_is_named(plant: Callable[[Scene], None], named: tuple[str, str]) -> None:
    play = scene()
    plant(play)
    verdict = play.judge()
    assert not verdict.passed
    assert named in rules(verdict)
    wrong = {order for _, order in rules(verdict)} & play.orders.keys()
    assert sum(count.orders - count.right for count in verdict.outcomes) == len(wrong)


@pytest.mark.parametrize("rule", [*RULES, *ORDER_RULES], ids=lambda rule: rule.__name__)
def test_every_rule_finds_what_no_other_finds(
    monkeypatch: pytest.MonkeyPatch, rule: Callable[..., Iterator[Difference]]
) -> None:
    monkeypatch.setattr("examples.orders.judge.RULES", [other for other in RULES if other is not rule])
    monkeypatch.setattr("examples.orders.judge.ORDER_RULES", [other for other in ORDER_RULES if other is not rule])

    def still_named(plant: Callable[[Scene], None], named: tuple[str, str]) -> bool:
        play = scene()
        plant(play)
        return named in rules(play.judge())

    assert not all(still_named(plant, named) for plant, named in VIOLATIONS)


def test_after_commit_is_counted() -> None:
    play = scene()
    rerun_after_commit(play)
    assert [count.after_commit for count in play.judge().steps if count.step == "price"] == [1]


# --- what the judge stands on ----------------------------------------------------------------------------------


def test_later_steps() -> None:
    assert later_steps("validate") == {"price", "stock", "fraud", "charge", "cooling-off", "mail"}
    assert later_steps("price") == {"charge", "cooling-off", "mail"}
    assert later_steps("charge") == {"cooling-off", "mail"}
    assert later_steps("mail") == frozenset()


def test_the_kill_follows_from_the_seed() -> None:
    _, orders = read_orders()
    assert KillPlan.from_seed(7, orders) == KillPlan.from_seed(7, orders)
    plans = [KillPlan.from_seed(seed, orders) for seed in range(200)]
    assert len({plan.bodies for plan in plans}) > 100
    assert all(0.3 <= plan.bodies / expected_bodies(orders) <= 0.7 for plan in plans)
    assert all(0 <= plan.delay_ms <= 20 for plan in plans)


def test_the_orders_are_a_mixture() -> None:
    inputs, orders = read_orders()
    assert len(inputs) == len(orders) == len({order.order for order in orders}) == 300
    assert "expected" not in inputs[0]
    sorts = Counter(order.outcome for order in orders)
    assert sorts == {"fulfilled": 285, "invalid": 5, "unknown_item": 3, "out_of_stock": 4, "suspicious": 3}
    assert sum(order.busy_bank for order in orders) == 24
    assert set(sorts) == {order.outcome for order in orders[:40]}


def test_fragments_of_lines_are_counted_and_spoil_nothing_else(tmp_path: Path) -> None:
    effects = EffectsFile(tmp_path / "effects.jsonl")
    effects.write("pass", run="run_a")
    descriptor = os.open(tmp_path / "effects.jsonl", os.O_WRONLY | os.O_APPEND)
    os.write(descriptor, b'\n{"at_ms": 12, "pi')
    os.close(descriptor)
    effects.write("begin", run="run_a", step="price")
    assert [(event.what, event.seq) for event in effects.read_new()] == [("pass", 1), ("begin", 2)]
    assert effects.unreadable == 1
    effects.write("end", run="run_a", step="price")
    assert [event.what for event in effects.read_new()] == ["end"]
    effects.close()


def test_books_carry_out_each_key_once(tmp_path: Path) -> None:
    bank = Books(tmp_path / "bank.jsonl")
    first = bank.carry_out("ORD-1", cents=500)
    assert bank.carry_out("ORD-1", cents=700) == first
    assert [(request.cents, request.done) for request in bank.read()] == [(500, True), (700, False)]

"""The short form of the simulation, for every run of the suite; `make simulate` goes on as long as one wants."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Final

import pytest

from tests.simulation.loops import Stuck, World
from tests.simulation.planted import hunt, names
from tests.simulation.server import SimulatedServer
from tests.simulation.simulation import run_seed
from tests.support.servers import ServerKind, ServerProcess

PLAYED: Final = [*((seed, "") for seed in range(1, 23)), *((seed, "tree") for seed in (2, 3, 4))]
"""Seeds, and the workflow that they play; else what they draw."""
CALLED: Final = {
    "accept_event", "admit_run", "cancel_children", "cancel_run", "claim_runs", "create_runs", "decide_failure",
    "open_wait", "promote_runs", "record_steps", "recover_runs", "release_runs", "renew_leases", "settle_runs",
    "start_children", "time_out_runs",
}  # fmt: skip
"""What must have been called in the course of the seeds, or they prove nothing."""
HAPPENED: Final = {"kill", "freeze", "freeze briefly", "stop", "reset", "outage", "cut", "lost", "slow"}


@pytest.fixture(scope="module")
def real(server_kind: ServerKind) -> Iterator[ServerProcess]:
    """A server of these tests' own: a simulation empties it."""
    with ServerProcess(server_kind) as process:
        yield process


@pytest.fixture
def simulated_server(real: ServerProcess) -> Iterator[SimulatedServer]:
    """The way to it."""
    server = SimulatedServer(str(real.socket_path))
    yield server
    server.close()


@pytest.mark.timeout(300)
def test_some_seeds_break_nothing(simulated_server: SimulatedServer) -> None:
    called, happened = Counter[str](), Counter[str]()
    for seed, workflow in PLAYED:
        report = run_seed(simulated_server, seed, workflow.split())
        shown = "\n".join(line[:500] for line in report.trace[-40:])
        assert not report.violation, f"{shown}\n{report.violation}\nagain: make simulate SEED={seed}"
        called.update(report.verbs)
        happened.update(report.faults)
    assert {verb for verb, count in called.items() if count} >= CALLED
    assert {fault for fault, count in happened.items() if count} >= HAPPENED


@pytest.mark.timeout(120)
def test_a_seed_is_a_history(simulated_server: SimulatedServer) -> None:
    """The same seed twice, to the last byte, with others between; and another seed is another history."""
    seeds = (7, 8, 7, 8)
    first, other, second, other_again = [run_seed(simulated_server, seed) for seed in seeds]
    assert (first.digest, first.operations, first.virtual_s) == (second.digest, second.operations, second.virtual_s)
    assert other.digest == other_again.digest != first.digest


QUICK: Final = ("the owner of a mutex is not looked at", "a step is never written", "nobody tells the parent")


@pytest.mark.planted
@pytest.mark.timeout(300)
@pytest.mark.parametrize("bug", [pytest.param(name, id=name.replace(" ", "-")) for name in QUICK])
def test_a_planted_bug_is_found_and_found_again(real: ServerProcess, bug: str) -> None:
    found = hunt(real, bug, tries=10)
    assert found.seed is not None, "no seed finds it"
    assert found.again, f"seed {found.seed} does not find it again"


def test_the_quick_ones_are_of_the_catalogue() -> None:
    assert set(QUICK) <= set(names())


# -- the world itself ----------------------------------------------------------------------------------------------


def test_time_passes_only_when_nobody_has_anything_to_do() -> None:
    world, seen = World(1), []
    node = world.new_process("a")

    async def sleeper(seconds: float) -> None:
        await asyncio.sleep(seconds)
        seen.append((seconds, round(asyncio.get_running_loop().time())))

    tasks = [node.main.create_task(sleeper(seconds)) for seconds in (3_600.0, 60.0)]
    world.run(lambda: len(seen) == 2, 10**12)
    assert seen == [(60.0, 60), (3_600.0, 3_600)]
    assert all(task.done() for task in tasks)
    world.end()


def test_within_a_process_callbacks_keep_their_order_and_between_processes_the_seed_decides() -> None:
    def order(seed: int) -> list[str]:
        world, seen = World(seed), list[str]()
        for name in "ab":
            loop = world.new_process(name).main
            for number in range(3):
                loop.call_soon(lambda loop=loop, text=f"{name}{number}": loop.call_soon(seen.append, text))
        world.run(lambda: True, 10**9)
        world.end()
        return seen

    orders = {tuple(order(seed)) for seed in range(20)}
    assert len(orders) > 1
    for seen in orders:
        assert [text for text in seen if text[0] == "a"] == ["a0", "a1", "a2"]
    assert order(5) == order(5)


def test_a_frozen_process_does_nothing_and_a_dead_one_never_again() -> None:
    world, seen = World(1), list[str]()
    frozen, dead = world.new_process("frozen"), world.new_process("dead")
    for process in (frozen, dead):
        process.main.call_later(1.0, seen.append, process.name)
    frozen.frozen = True
    dead.kill()
    world.later(5_000_000, lambda: setattr(frozen, "frozen", False))
    with pytest.raises(Stuck):
        world.run(lambda: False, 4_000_000)
    assert seen == []
    world.run(lambda: "frozen" in seen, 6_000_000)
    assert seen == ["frozen"]
    with pytest.raises(Stuck):
        world.run(lambda: "dead" in seen, 10**9)
    world.end()


def test_an_endless_turning_is_noticed() -> None:
    world = World(1)
    loop = world.new_process("a").main

    def again() -> None:
        loop.call_soon(again)

    again()
    with pytest.raises(Stuck, match="turns and turns"):
        world.run(lambda: False, 10**9)
    world.end()

"""The life of runs, played at random against a real server and against the model; both must agree after each step.

A step is one call of a verb, often sent twice, as after a lost reply. After it the reply, every key with its value,
and the invariants are compared. The games are always the same and, to stay quick, not made smaller when one fails:
a failure prints the calls that lead to it, and a blob that replays them. `REDFLOW_TEST_MODEL=thorough` plays more,
longer and new games, and makes a failing one as small as it can.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from redflow.engines.redis import runs, scripts
from redflow.errors import RedflowError
from tests.model.life import PAYLOADS, QUIET_MS, Life
from tests.support.scripts import LEASE_MS, RETENTION_MS
from tests.support.servers import ServerOptions, ServerProcess

THOROUGH: Final = os.environ.get("REDFLOW_TEST_MODEL") == "thorough"
SETTINGS: Final = settings(
    max_examples=400 if THOROUGH else 90,
    stateful_step_count=80 if THOROUGH else 40,
    derandomize=not THOROUGH,
    database=None,
    deadline=None,
    print_blob=True,
    phases=[Phase.generate, Phase.shrink] if THOROUGH else [Phase.generate],
    suppress_health_check=[*HealthCheck],
)

Call = tuple[str, dict[str, Any]]  # a method of Life and its arguments

again = st.booleans()
few = st.integers(1, 3)
some = st.integers(0, 1_000)  # stands for one of the runs or leases there are, modulo their number
payload = st.sampled_from(sorted(PAYLOADS))
worker = st.sampled_from(["w1", "w1", "w2", "w3"])
app = st.sampled_from(["app", "app", "app", "other"])
queues = st.sampled_from([("app:q", "app:x"), ("app:x", "app:q"), ("app:q",), ("other:q", "app:q")])
outcome = st.sampled_from(["succeeded", "failed", "canceled", "retry", "suspended"])
delay = st.sampled_from([-5, 0, 40])


def call(method: str, **arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Call]:
    """Calls of a method of Life."""
    return st.tuples(st.just(method), st.fixed_dictionaries(arguments))


# Few rules with many calls each: Hypothesis leaves whole rules out of a game.
CANCELS = call("cancel", which=some, reason=st.sampled_from(["", "why"]), again=again)
CLIENTS = (
    call(
        "create",
        workflow=st.sampled_from(["a", "a", "b", "new"]),
        queue=st.sampled_from([None, None, "q", "x", "app:q"]),
        key=st.sampled_from([None, None, "k1", "k2"]),
        delay=st.sampled_from([None, None, -5, 0, 40, 5_000]),
        data=payload,
        priority=st.sampled_from([None, None, None, 0, 100, -100]),
        timeout=st.sampled_from([None, None, 60, 2_000]),
        count=few,
        again=again,
    )
    | call("idempotency_key_expires", which=some)
    | CANCELS
)
CLAIMS = call("claim", worker=worker, want=few, queues=queues, again=again) | call(
    "claim_late", worker=worker, queues=queues
)
STEP = st.tuples(some, st.sampled_from(["one", "two"]), st.sampled_from("SFR"), payload)
END = st.tuples(some, outcome, payload, delay)
SETTLES = call(
    "settle", ends=st.lists(END, min_size=1, max_size=3), worker=worker, queues=queues, idle=st.booleans(), again=again
)
ATTEMPTS = (
    call("record", steps=st.lists(STEP, min_size=1, max_size=3), again=again)
    | SETTLES
    | SETTLES
    | call("decide_failure", which=some, error=payload, again=again)
    | call("release", which=st.lists(some, min_size=1, max_size=3), again=again)
    | call("renew", worker=worker, which=st.lists(some, max_size=3), again=again)
    | CANCELS
)
LOOPS = (
    call("pass_time", by=st.sampled_from([1, 40, 1_000, LEASE_MS, QUIET_MS]))
    | call("promote", limit=few, after=st.sampled_from([0, 40, 5_000]), again=again)
    | call("time_out", limit=few, after=st.sampled_from([0, 60, 2_000]), again=again)
    | call("recover", limit=few, again=again, deaths=st.sampled_from([0, 1, 1, 3]))
    | call("purge", limit=few, again=again, after=st.sampled_from([0, RETENTION_MS - LEASE_MS, RETENTION_MS]))
    | call("fail_strays", which=some, limit=few, waited=st.booleans(), again=again)
)
OPERATORS = call("retry", which=some, again=again) | call(
    "set_pause",
    what=st.sampled_from(["q:app:q", "w:a"]),
    paused=st.sampled_from([True, False, False]),
    again=again,
)
REGISTRY = (
    call(
        "register_workflow",
        name=st.sampled_from(["a", "b", "new"]),
        limit=st.sampled_from([None, 1, 2, 3]),
        version=st.sampled_from([None, 5, 6]),
        app=app,
        again=again,
        hook=st.booleans(),
    )
    | call("remove_workflows", kept=st.sampled_from([("a", "b"), ("b",), ()]), app=app, again=again)
    | call("register_worker", worker=worker, app=app, again=again)
    | call("register_worker", worker=worker, app=app, again=again)
    | call("unregister_worker", worker=worker, queues=queues, again=again)
)


class RunLife(RuleBasedStateMachine):
    """The verbs, in any order, with arguments that make sense or no longer do."""

    url: str

    def __init__(self) -> None:
        super().__init__()
        self.life = Life(self.url)

    def teardown(self) -> None:
        """Close what was opened."""
        self.life.close()

    def play(self, call: Call) -> None:
        """Make one call."""
        method, arguments = call
        getattr(self.life, method)(**arguments)

    @invariant()
    def both_worlds_agree(self) -> None:
        """After every step."""
        self.life.compare()

    @initialize(limit=st.sampled_from([1, 2]))
    def begin(self, limit: int) -> None:
        """A game begins with two workflows, two workers and some runs, three of them claimed."""
        life = self.life
        life.register_workflow("a", limit, None, "app", again=False)
        life.register_workflow("b", None, None, "app", again=False)
        life.register_worker("w1", "app", again=False)
        life.register_worker("w2", "app", again=False)
        life.create("a", count=3, timeout=2_000)
        life.create("b", count=2, timeout=60)
        life.claim("w1", 3, ("app:q",), again=False)

    @rule(call=CLIENTS)
    def client(self, call: Call) -> None:
        """Clients."""
        self.play(call)

    @rule(call=CLAIMS)
    def claim(self, call: Call) -> None:
        """Workers that want more."""
        self.play(call)

    @rule(call=ATTEMPTS)
    def attempt(self, call: Call) -> None:
        """Workers that hold runs, and clients that cancel them."""
        self.play(call)

    @rule(call=ATTEMPTS)
    def attempt_too(self, call: Call) -> None:
        """The same: most of a run's life."""
        self.play(call)

    @rule(call=LOOPS)
    def loop(self, call: Call) -> None:
        """Time, and the duties that follow it."""
        self.play(call)

    @rule(call=REGISTRY | OPERATORS)
    def registry(self, call: Call) -> None:
        """Workers that come and go, workflows that change; who repairs, and pauses."""
        self.play(call)


HAPPENS: Final = {
    *("create: created", "create: found", "claim: runs", "record: plain", "settle: plain", "settle: stale"),
    *("release: some", "renew: plain", "cancel: canceled", "cancel: requested", "recover: some", "promote: some"),
    *("retry: retried", "retry: unknown", "retry: queued", "pause: some", "resume: some"),
    *("purge: some", "time_out: some", "settle: timeout", "record: timeout", "renew: timeout"),
}
"""What must have been answered in the course of the games, or they prove nothing."""


@pytest.mark.timeout(0 if THOROUGH else 300)
def test_the_scripts_do_what_the_model_says(private_server: Callable[[ServerOptions], ServerProcess]) -> None:
    Life.seen.clear()
    play_games(private_server(ServerOptions()).url, SETTINGS)
    assert set(Life.seen) >= HAPPENS, f"games in which too little happens: {sorted(HAPPENS - set(Life.seen))}"


# Faults that the games must find: (file, what stands there, what stands there instead).
FAULTS: Final = {
    "fence and token are not looked at": ("lib/owned_run", "r[2] ~= fence or r[3] ~= token", "false"),
    "a settled run is settled again": ("lib/owned_run", "if r[1] ~= 'running' then", "if false then"),
    "the index keeps the old status": ("lib/set_status", "if from ~= '' then index_run", "if false then index_run"),
    "a retry keeps its lease": ("settle_runs", "index_run('ZREM', base .. 'leases', id)", ""),
    "a slot is not handed on": ("settle_runs", "  free_slot(base, run.workflow)\n", ""),
    "the limit is not looked at": ("claim_runs", "room_of(base, workflow) <= 0", "false"),
    "a claim sent again takes more": ("claim_runs", "last[1] == token", "false"),
    "a create sent again makes another": ("lib/create_run", "redis.call('EXISTS', record) == 1", "false"),
    "a key is taken from a run that goes on": ("lib/earlier_run", "if not status or status == 'failed'", "if true"),
    "a cancel request is overlooked": ("settle_runs", "if run.cancel then", "if false then"),
    "a canceled run stays in its queue": ("lib/leave_places", "redis.call('ZREM', base .. 'ready:' .. queue, id)", ""),
    "a run that timed out may still succeed": ("settle_runs", "if run.decided and outcome", "if false and outcome"),
    "an ended run keeps its time-out": ("lib/finish_run", "if run.timeout ~= false then", "if false then"),
    "a priority is forgotten on the way": ("lib/create_run", "false, priority)", "false)"),
    "a recovered run goes to the back": ("recover_runs", "r[5], true)", "r[5], false)"),
    "deaths are not counted": ("recover_runs", "redis.call('HSET', key, 'x', deaths)", ""),
    "a paused queue is served": ("claim_runs", "do serves[queue] = nil end", "do local _ = queue end"),
    "a purged run stays in its index": ("purge_runs", "redis.call('ZREM', index, id)", ""),
}  # fmt: skip


@pytest.mark.planted
@pytest.mark.timeout(300)
@pytest.mark.parametrize("fault", FAULTS)
def test_the_games_find_a_planted_fault(
    private_server: Callable[[ServerOptions], ServerProcess], monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    name, old, new = FAULTS[fault]
    plant(monkeypatch, f"{name}.lua", old, new)
    url = private_server(ServerOptions()).url
    with pytest.raises((AssertionError, RedflowError, ExceptionGroup)):
        play_games(url, settings(SETTINGS, max_examples=1_000))


def play_games(url: str, how: settings) -> None:
    """Play until a game fails, or all are over."""

    class OnThisServer(RunLife):
        pass

    OnThisServer.url = url
    run_state_machine_as_test(OnThisServer, settings=how)


def plant(monkeypatch: pytest.MonkeyPatch, path: str, old: str, new: str) -> None:
    """Let every verb be made with one text of a file replaced."""
    read = scripts._read
    assert read(path).count(old) == 1
    monkeypatch.setattr(scripts, "_read", lambda asked: read(asked).replace(old, new) if asked == path else read(asked))
    for attribute, script in list(vars(runs).items()):
        if isinstance(script, scripts.Script):
            source = scripts._resolve(script.name)
            sha = hashlib.sha1(source.encode()).hexdigest()
            monkeypatch.setattr(runs, attribute, scripts.Script(script.name, source, sha))

"""For which place each payload is encrypted, and who may read it where."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redflow.codec import AesGcmCodec
from redflow.domain.event import EventRef
from redflow.domain.run import child_run_id, cron_run_id, public_run_id
from redflow.domain.sealing import StepSeals, Vault
from redflow.domain.step import ChildRef, StepKind, StepRecord, StepStatusName
from redflow.errors import PayloadDecodeError

CODEC = AesGcmCodec(keys={"k": b"k" * 32}, current="k")
VAULT = Vault(CODEC, "p")
STRICT = Vault(AesGcmCodec(keys={"k": b"k" * 32}, current="k", require_encrypted=True), "p")

RUN, OTHER = child_run_id("0" * 32, "a", 1), child_run_id("0" * 32, "b", 1)


def step(kind: StepKind, status: StepStatusName, payload: bytes, name: str = "s") -> StepRecord:
    return StepRecord(name, 1, status, 1, 0, None if status == "running" else 1, payload, kind)


def seals(run_id: str = RUN) -> StepSeals:
    return StepSeals(VAULT, public_run_id(run_id))


def delivery(event_id: str, trigger: str) -> str:
    """The id of a subscriber's run, as delivery_run_id.lua makes it."""
    digest = hashlib.sha1(f"{event_id} {trigger}".encode(), usedforsecurity=False).hexdigest()
    return "0123456789ab" + "7" + "000" + "8" + "0001" + digest[:11]


# -- inputs ---------------------------------------------------------------------------------------------------------


def test_an_input_is_its_runs() -> None:
    stored = VAULT.seal_input(b"1", RUN)
    assert VAULT.open_input(stored, RUN) == b"1"
    with pytest.raises(PayloadDecodeError, match=f"encrypted for {public_run_id(RUN)}"):
        VAULT.open_input(stored, OTHER)


def test_a_debounced_input_is_that_of_the_run_it_came_with() -> None:
    stored = VAULT.seal_input(b"1", OTHER)
    assert VAULT.open_input(stored, RUN, handed_in_by=OTHER) == b"1"
    with pytest.raises(PayloadDecodeError):
        VAULT.open_input(VAULT.seal_input(b"1", RUN), RUN, handed_in_by=OTHER)


@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=8))
def test_an_events_data_is_the_input_of_its_subscribers(event_id: str, name: str, trigger: str) -> None:
    stored, run_id = VAULT.seal_event(b"1", event_id, name), delivery(event_id, trigger)
    assert VAULT.open_input(stored, run_id, triggers=["x" * 9, trigger]) == b"1"
    assert VAULT.open_input(stored, run_id, triggers=None) == b"1"
    for triggers in ([], ["x" * 9]):
        with pytest.raises(PayloadDecodeError, match="encrypted for event"):
            VAULT.open_input(stored, run_id, triggers=triggers)
    with pytest.raises(PayloadDecodeError, match="encrypted for event"):
        VAULT.open_input(VAULT.seal_event(b"2", event_id + "2", name), run_id, triggers=[trigger])


def test_a_cron_input_is_that_of_its_ticks() -> None:
    stored = VAULT.seal_cron(b"1", "ab12")
    assert VAULT.open_input(stored, cron_run_id("ab12", 1000, shard=5)) == b"1"
    for stranger in (cron_run_id("ab13", 1000), RUN):
        with pytest.raises(PayloadDecodeError, match="encrypted for cron trigger"):
            VAULT.open_input(stored, stranger)


@pytest.mark.parametrize(
    "origin", ["", "x", "r", f"r{OTHER}", f"r{RUN}x", "c", "cab12", "e", "e.", "e!!.!!", "eYQ.Yg", "e" * 300]
)
def test_an_origin_that_was_changed_is_no_way_in(origin: str) -> None:
    _mark, _origin, rest = VAULT.seal_input(b"1", RUN).split(b":", 2)
    for triggers in ((), None):
        with pytest.raises(PayloadDecodeError):
            VAULT.open_input(b"rf1:%s:%s" % (origin.encode(), rest), RUN, triggers=triggers)


@given(st.binary(max_size=60))
def test_what_only_looks_encrypted_is_refused(rest: bytes) -> None:
    with pytest.raises(PayloadDecodeError):
        VAULT.open_input(b"rf1:" + rest, RUN)
    with pytest.raises(PayloadDecodeError):
        VAULT.open_of_run(b"rf1:" + rest, "output", RUN)


def test_kinds_prefixes_and_runs_are_told_apart() -> None:
    stored = VAULT.seal_of_run(b"1", "output", RUN)
    assert VAULT.open_of_run(stored, "output", RUN) == b"1"
    with pytest.raises(PayloadDecodeError):
        VAULT.open_of_run(stored, "error", RUN)
    with pytest.raises(PayloadDecodeError):
        VAULT.open_of_run(stored, "output", OTHER)
    with pytest.raises(PayloadDecodeError):
        Vault(CODEC, "q").open_of_run(stored, "output", RUN)


# -- steps ----------------------------------------------------------------------------------------------------------

CONTENT = st.sampled_from([b"1", b"null", b'"@"', b'{"a":1}', b"z\x78 packed"])


@given(CONTENT, st.sampled_from(["run", "sleep"]), st.sampled_from(["succeeded", "failed", "canceled"]), st.text())
def test_a_steps_value_comes_back(content: bytes, kind: StepKind, status: StepStatusName, name: str) -> None:
    if kind == "sleep" and status == "succeeded":
        content = b"null"
    before = step(kind, status, content, name)
    stored = seals().sealed(before)
    assert before.payload == content, "the step itself is left as it is"
    assert stored.startswith(b"rf1:") != (kind == "sleep" and status == "succeeded")
    assert seals().opened(replace(before, payload=stored)).payload == content
    if stored.startswith(b"rf1:"):
        for wrong in (replace(before, payload=stored, name=name + "x"), replace(before, payload=stored)):
            with pytest.raises(PayloadDecodeError):
                seals(RUN if wrong.name != name else OTHER).opened(wrong)


@pytest.mark.parametrize(
    "plain",
    [
        step("run", "running", b""), step("sleep", "running", b"17"), step("sleep", "succeeded", b"null"),
        step("run", "succeeded", b"@"), step("child", "running", b""),
        step("child", "running", ChildRef("-", RUN, 1, True).packed()),
        step("child", "succeeded", ChildRef("S", RUN, 1, True, b"@").packed()),
        step("event", "running", EventRef("-", 5, "e", "k").packed()),
        step("event", "succeeded", EventRef("T", 5, "e", "k").packed()),
        step("event", "succeeded", EventRef("E", 5, "e", "k", 3, "id", b"@").packed()),
    ],
)  # fmt: skip
def test_what_holds_nothing_of_a_users_stays_plain(plain: StepRecord) -> None:
    assert seals().sealed(plain) == plain.payload
    assert STRICT is not None
    assert StepSeals(STRICT, public_run_id(RUN)).opened(replace(plain)).payload == plain.payload


@pytest.mark.parametrize(("end", "kind"), [("S", "output"), ("F", "error")])
def test_a_childs_end_is_read_where_it_came_and_written_as_it_came(end: str, kind: str) -> None:
    came = VAULT.seal_of_run(b'{"a":1}', "output" if end == "S" else "error", OTHER)
    mine = seals()
    opened = mine.opened(step("child", "running", ChildRef(end, OTHER, 1, True, came).packed()))
    assert opened.payload == ChildRef(end, OTHER, 1, True, b'{"a":1}').packed()
    if end == "S":
        ended = opened.finished("succeeded", 1, 1, opened.payload)
        assert mine.sealed(ended) == ChildRef(end, OTHER, 1, True, came).packed()
        assert seals().opened(replace(ended, payload=mine.sealed(ended))).payload == opened.payload
    else:  # the parent keeps an error of its own
        ended = opened.finished("failed", 1, 1, ChildRef(end, OTHER, 1, True, b'{"mine":1}').packed())
        stored = mine.sealed(ended)
        assert came not in stored
        assert seals().opened(replace(ended, payload=stored)).payload == ended.payload
    with pytest.raises(PayloadDecodeError):
        seals().opened(step("child", "running", ChildRef(end, RUN, 1, True, came).packed()))


def test_an_event_is_read_where_it_came_and_written_as_it_came() -> None:
    came = VAULT.seal_event(b"1", "id", "paid")
    mine = seals()
    opened = mine.opened(step("event", "running", EventRef("E", 5, "paid", "k", 3, "id", came).packed()))
    assert opened.payload == EventRef("E", 5, "paid", "k", 3, "id", b"1").packed()
    ended = opened.finished("succeeded", 1, 1, opened.payload)
    assert mine.sealed(ended) == EventRef("E", 5, "paid", "k", 3, "id", came).packed()
    for event_id, name in (("id2", "paid"), ("id", "unpaid")):
        with pytest.raises(PayloadDecodeError):
            seals().opened(step("event", "running", EventRef("E", 5, name, "k", 3, event_id, came).packed()))


# -- plain text -----------------------------------------------------------------------------------------------------


def test_plain_text_is_read_unless_encryption_is_required() -> None:
    assert VAULT.open_input(b"1", RUN) == VAULT.open_of_run(b"1", "output", RUN) == b"1"
    for kind in ("input", "output", "step_output", "event", "cron"):
        with pytest.raises(PayloadDecodeError, match="in plain text"):
            STRICT.open(b"1", kind, "x")
    with pytest.raises(PayloadDecodeError, match="in plain text"):
        STRICT.open_input(b"1", RUN)
    assert STRICT.open(b"{}", "error", "x") == STRICT.open(b"{}", "step_error", "x") == b"{}", "scripts write some"
    child = f'"{public_run_id(RUN)}"'.encode()
    assert STRICT.open(child, "step_output", "x") == child, "scripts write the ids of children"
    for forged in (child[:-2] + b'x"', child[:-1] + b' "', b'"run_' + b"x" * 36 + b'"'):
        with pytest.raises(PayloadDecodeError):
            STRICT.open(forged, "step_output", "x")


def test_what_a_user_writes_is_never_taken_for_a_ciphertext() -> None:
    text = b'"rf1:r:k:AAAA"'
    assert VAULT.open_input(text, RUN) == text

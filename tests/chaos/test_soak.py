"""The short form of the soak, and bugs that it must find; `make soak` and `make planted` are the whole of both."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.chaos.checker import RULES
from tests.chaos.planted import hunt, read_bugs
from tests.chaos.soak import MIX, SHORT, soak, write_json
from tests.chaos.sources import ROOT, Patch, PatchError, apply_patch

SEED = 6
FOUND_IN_THE_SUITE = ("the fence is not checked", "the owner of a mutex is not looked at", "a step is never written")


# Its own client's socket may be left behind by a server that is killed in the middle of a reply.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.timeout(300)
async def test_a_short_soak_breaks_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    total = await soak(tmp_path, SEED, SHORT, rounds=0, plays=200, seconds=90, say=print)
    assert not total.failed(SHORT), total.text(SHORT)
    write_json(total, SHORT, tmp_path / "reliability.json")
    told = json.loads((tmp_path / "reliability.json").read_text("utf-8"))
    assert told["seed"] == SEED
    assert {row["violations"] for row in told["invariants"].values()} == {0}
    assert "round 6:" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.planted
@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", FOUND_IN_THE_SUITE)
async def test_a_planted_bug_is_found_under_its_invariant(name: str, tmp_path: Path) -> None:
    [bug] = [bug for bug in read_bugs() if bug.id == name]
    told: list[str] = []
    assert await hunt(bug, SEED, tmp_path, told.append), told


def test_the_catalogue_of_bugs_fits_the_sources(tmp_path: Path) -> None:
    """Each patch's old text stands in its file exactly once, each bug names an invariant and primitives that exist."""
    bugs = read_bugs()
    assert len(bugs) >= 20
    assert len({bug.id for bug in bugs}) == len(bugs)
    for bug in bugs:
        assert bug.invariant in {rule.number for rule in RULES}, bug.id
        assert bug.plan(1).workflows, bug.id
        assert set(bug.mix) <= {*MIX, "cron", "poison"}, bug.id
    shutil.copytree(ROOT / "src" / "redflow", tmp_path / "redflow")
    for bug in bugs:
        for change in bug.changes():
            apply_patch(tmp_path / "redflow", change)
        for change in bug.changes():  # the next bug is planted in sound sources
            shutil.copy(ROOT / "src" / "redflow" / change.file, tmp_path / "redflow" / change.file)


def test_a_patch_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x x", "utf-8")
    with pytest.raises(PatchError, match="stands there 2 times"):
        apply_patch(tmp_path, Patch("a.py", "x", "y"))
    with pytest.raises(PatchError, match="stands there 0 times"):
        apply_patch(tmp_path, Patch("a.py", "z", "y"))

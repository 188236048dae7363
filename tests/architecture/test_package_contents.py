"""What an installed redflow consists of."""

from __future__ import annotations

import tomllib
import zipfile
from pathlib import Path

from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).resolve().parents[2]


def test_wheel_ships_every_file_of_the_package_and_the_license(tmp_path: Path) -> None:
    wheel = next(WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"]))
    with zipfile.ZipFile(wheel) as archive:
        shipped = set(archive.namelist())
    source = ROOT / "src"
    wanted = {
        path.relative_to(source).as_posix()
        for package in ("redflow", "r7kit")
        for path in (source / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    for package, script in (("redflow", "engines/redis/lua/claim_runs.lua"), ("r7kit", "records/lua/patch_task.lua")):
        assert {f"{package}/py.typed", f"{package}/{script}"} <= wanted
    assert wanted <= shipped
    assert any(name.endswith("/licenses/LICENSE") for name in shipped)


def test_version_is_that_of_the_metadata() -> None:
    import redflow

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert redflow.__version__ == project["version"]

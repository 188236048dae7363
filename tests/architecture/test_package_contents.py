"""What an installed redflow consists of."""

from __future__ import annotations

import json
import re
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
    assert "redflow/engines/redis/redflow.acl" in shipped


def test_wheel_has_a_bill_of_materials(tmp_path: Path) -> None:
    first, again = (
        next(WheelBuilder(str(ROOT)).build(directory=str(tmp_path / name), versions=["standard"])) for name in "ab"
    )
    assert Path(first).read_bytes() == Path(again).read_bytes(), "a build can be repeated"
    with zipfile.ZipFile(first) as archive:
        [name] = [name for name in archive.namelist() if "/sboms/" in name]
        bill = json.loads(archive.read(name))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert name.endswith(".dist-info/sboms/redflow.cdx.json")
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    assert bill["metadata"]["component"]["purl"] == f"pkg:pypi/redflow@{project['version']}"
    needed = {re.match(r"[\w.-]+", text)[0].lower() for text in project["dependencies"]}  # type: ignore[index]
    assert {c["name"].lower() for c in bill["components"] if c["scope"] == "required"} == needed
    extras = {c["name"] for c in bill["components"] if c["scope"] == "optional"}
    assert {"hiredis", "temporalio"} <= extras
    assert "pytest" not in extras
    refs = {c["bom-ref"] for c in bill["components"]} | {bill["metadata"]["component"]["bom-ref"]}
    assert {edge["ref"] for edge in bill["dependencies"]} == refs


def test_version_is_that_of_the_metadata() -> None:
    import redflow

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert redflow.__version__ == project["version"]

"""Print the oldest versions of the direct dependencies that pyproject.toml allows, as a pip constraints file.

usage: floors.py PYPROJECT

`make test-floors` installs exactly these versions and runs the suite, so that a floor is a tested fact.
Development tools are left out: nobody but us installs them.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

NOT_TESTED = {"dev"}


def floors(pyproject: Path) -> list[str]:
    """Return one `name==floor` a dependency that applies to this machine.

    Raises ValueError for a dependency without a `>=` floor.
    """
    project = tomllib.loads(pyproject.read_text("utf-8"))["project"]
    texts: list[str] = list(project["dependencies"])
    for extra, extra_texts in project["optional-dependencies"].items():
        if extra not in NOT_TESTED:
            texts += extra_texts
    pins: dict[str, str] = {}
    for requirement in map(Requirement, texts):
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        lowest = [spec.version for spec in requirement.specifier if spec.operator == ">="]
        if len(lowest) != 1:
            raise ValueError(f"{requirement.name} needs exactly one '>=' floor")
        pins[requirement.name] = lowest[0]
    return [f"{name}=={version}" for name, version in sorted(pins.items())]


if __name__ == "__main__":
    print("\n".join(floors(Path(sys.argv[1]))))

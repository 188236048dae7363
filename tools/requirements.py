"""Print what redflow needs at run time, with all extras but `dev`, as a pip requirements file.

usage: requirements.py PYPROJECT

`make audit` has it looked up in the database of known holes.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path


def requirements(pyproject: Path) -> list[str]:
    """The requirements, each once, in the order of the file."""
    project = tomllib.loads(pyproject.read_text("utf-8"))["project"]
    texts: list[str] = list(project["dependencies"])
    for extra, extra_texts in project["optional-dependencies"].items():
        if extra != "dev":
            texts += extra_texts
    return list(dict.fromkeys(texts))


if __name__ == "__main__":
    print("\n".join(requirements(Path(sys.argv[1]))))

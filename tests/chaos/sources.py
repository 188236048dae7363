"""The sources that the chaos tests run: a copy of the product with an audit in it, and perhaps a planted bug.

The product has no test flag, no hook and no debug stream. What the tests need is put into a copy as patches of its
text: see docs/decisions/0021-the-audit-is-a-patch-of-a-copy.md.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
_AUDIT: Final = Path(__file__).with_name("audit.lua")
_RESOLVED: Final = '    return text[:header_end] + "".join(parts) + _INCLUDE.sub("", text[header_end:])\n'
_AUDITED: Final = """    body = "".join(parts) + _INCLUDE.sub("", text[header_end:])
    if "-- keys: 1 base" not in text:
        return text[:header_end] + body
    with open(_AUDIT, encoding="utf-8") as file:
        audit = file.read()
    return (
        f"{text[:header_end]}{audit}local function audited()\\n{body}\\nend\\n"
        f"local audited_reply = audited()\\nredis.audit_end('{name}')\\nreturn audited_reply\\n"
    )
"""
_TELL_SHAS: Final = """
import json, pkgutil, importlib, redflow.engines.redis as package
from redflow.engines.redis.scripts import Script
for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    importlib.import_module(found.name)
import sys
print(json.dumps({v.sha: v.name for m in list(sys.modules.values()) if m and m.__name__.startswith("redflow.")
                  for v in vars(m).values() if isinstance(v, Script)}))
"""


class PatchError(Exception):
    """The text to be patched is not there, or more than once."""


@dataclass(frozen=True, slots=True)
class Patch:
    """One change of a source: `old`, which stands in the file exactly once, becomes `new`.

    Attributes:
        file: below src/redflow, such as `engines/redis/lua/claim_runs.lua`.
        old, new: the text.
    """

    file: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Sources:
    """A patched copy of the product.

    Attributes:
        path: what to put before all else into PYTHONPATH.
        verbs: SHA1 of each script -> its name.
    """

    path: Path
    verbs: dict[str, str]

    def environment(self) -> dict[str, str]:
        """The environment of a process that runs them."""
        return {**os.environ, "PYTHONPATH": f"{self.path}{os.pathsep}{ROOT}"}


def make_sources(directory: Path, patches: tuple[Patch, ...] = (), *, audited: bool = True) -> Sources:
    """Copy the product into a directory and patch it.

    Raises:
        PatchError: a patch does not fit.
    """
    path = directory / "src"
    shutil.copytree(ROOT / "src" / "redflow", path / "redflow", ignore=shutil.ignore_patterns("__pycache__"))
    for patch in patches:
        apply_patch(path / "redflow", patch)
    if audited:
        audited_text = _AUDITED.replace("_AUDIT", repr(str(_AUDIT)))
        apply_patch(path / "redflow", Patch("engines/redis/scripts.py", _RESOLVED, audited_text))
    environment = {**os.environ, "PYTHONPATH": str(path)}
    told = subprocess.run(
        [sys.executable, "-c", _TELL_SHAS], env=environment, capture_output=True, text=True, check=False
    )
    if told.returncode:
        raise PatchError(f"the patched sources can't be imported:\n{told.stderr}")
    return Sources(path, json.loads(told.stdout))


def apply_patch(package: Path, patch: Patch) -> None:
    """Apply one patch to a copy; raises PatchError unless its old text stands there exactly once."""
    path = package / patch.file
    text = path.read_text("utf-8")
    if (count := text.count(patch.old)) != 1:
        raise PatchError(f"{patch.file}: the text to be patched stands there {count} times: {patch.old!r}")
    path.write_text(text.replace(patch.old, patch.new), "utf-8")

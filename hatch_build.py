"""Makes the wheel's bill of materials: what redflow asks for, as CycloneDX, in `.dist-info/sboms/` (PEP 770)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NAME = "redflow.cdx.json"


def bill_of_materials(name: str, version: str, dependencies: list[str], extras: dict[str, list[str]]) -> dict[str, Any]:
    """The bill as CycloneDX 1.5. It has no time and no random serial number, so that a build can be repeated."""
    root = f"pkg:pypi/{name}@{version}"
    components: dict[str, dict[str, Any]] = {}
    for extra, texts in [("", dependencies), *sorted(extras.items())]:
        for text in texts:
            _add(components, text, extra)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {"type": "library", "bom-ref": root, "name": name, "version": version, "purl": root},
        },
        "components": [components[key] for key in sorted(components)],
        "dependencies": [
            {"ref": root, "dependsOn": sorted(key for key, c in components.items() if c["scope"] == "required")},
            *({"ref": key, "dependsOn": []} for key in sorted(components)),
        ],
    }


def _add(components: dict[str, dict[str, Any]], text: str, extra: str) -> None:
    requirement, _, marker = (part.strip() for part in text.partition(";"))
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match is not None, text
    purl = f"pkg:pypi/{re.sub(r'[-_.]+', '-', match[0]).lower()}"
    properties = [{"name": "redflow:requirement", "value": requirement}]
    properties += [{"name": "redflow:marker", "value": marker}] if marker else []
    properties += [{"name": "redflow:extra", "value": extra}] if extra else []
    known = components.get(purl)
    if known is None or (known["scope"] == "optional" and not extra):
        components[purl] = {
            "type": "library",
            "bom-ref": purl,
            "name": match[0],
            "purl": purl,
            "scope": "optional" if extra else "required",
            "properties": properties,
        }


class BillOfMaterials(BuildHookInterface[Any]):
    """Writes the bill before a wheel is built."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling; an editable install has no bill."""
        if version == "editable":
            return
        core = self.metadata.core
        extras = {name: texts for name, texts in core.optional_dependencies.items() if name != "dev"}
        bill = bill_of_materials(core.name, core.version, list(core.dependencies), extras)
        path = Path(self.directory) / NAME
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(bill, indent=1, sort_keys=True) + "\n", "utf-8")
        build_data["sbom_files"].append(str(path))

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove it again: the wheel has it."""
        (Path(self.directory) / NAME).unlink(missing_ok=True)

"""Contracts of events: the one JSON Schema that all subscribers of an event agree on.

JSON Schema is Draft 2020-12 (json-schema.org/draft/2020-12). Remote references are never fetched.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

import orjson

from redflow.errors import InputValidationError
from redflow.types import JsonData

_DROPPED: Final = frozenset(
    {"$id", "$schema", "default", "deprecated", "description", "examples", "readOnly", "title", "writeOnly"}
)
_NAMED_SCHEMAS: Final = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_UNORDERED: Final = frozenset({"required", "enum", "allOf", "anyOf", "oneOf"})
_VALUES: Final = frozenset({"enum", "const"})


def contract_of(schema: object) -> str | None:
    """The canonical contract of an input schema; None if it tells no JSON Schema."""
    make = getattr(schema, "model_json_schema", None)
    return canonical(make(mode="validation")) if callable(make) else None


def canonical(schema: JsonData) -> str:
    """A schema as canonical JSON: without remarks, keys sorted, and lists sorted whose order means nothing.

    Only the keywords of schema objects are dropped; properties of those names are kept.
    """
    return orjson.dumps(_canonical(schema), option=orjson.OPT_SORT_KEYS).decode()


def _canonical(node: JsonData) -> JsonData:
    if isinstance(node, list):
        return [_canonical(item) for item in node]
    if not isinstance(node, dict):
        return node
    result: dict[str, JsonData] = {}
    for key, value in node.items():
        if key in _DROPPED:
            continue
        if key in _NAMED_SCHEMAS and isinstance(value, dict):
            result[key] = {name: _canonical(inner) for name, inner in value.items()}
        elif key in _VALUES:
            result[key] = _sorted(value) if key == "enum" else value
        elif (key in _UNORDERED or key == "type") and isinstance(value, list):
            result[key] = _sorted([_canonical(item) for item in value])
        else:
            result[key] = _canonical(value)
    return result


def _sorted(items: JsonData) -> JsonData:
    return sorted(items, key=lambda item: orjson.dumps(item, option=orjson.OPT_SORT_KEYS))


def schema_hash(contract: str) -> str:
    """A short name for a contract: the first 16 hex digits of its SHA-256."""
    return hashlib.sha256(contract.encode()).hexdigest()[:16]


def check_payload(event: str, contract: str, data: JsonData) -> None:
    """Validate an event's data.

    Raises:
        InputValidationError: with `issues`: event name, hash of the schema, and each breach with JSON pointers.
    """
    # Here and not above: the format checks take a second to import, and most programs never need them.
    from jsonschema import Draft202012Validator, FormatChecker
    from referencing import Registry

    validator = Draft202012Validator(orjson.loads(contract), format_checker=FormatChecker(), registry=Registry())
    issues = sorted(
        (
            {
                "instancePath": _pointer(error.absolute_path),
                "keyword": str(error.validator),
                "message": error.message[:1000],
                "schemaPath": "#" + _pointer(error.absolute_schema_path),
            }
            for error in validator.iter_errors(data)
        ),
        key=lambda issue: (issue["instancePath"], issue["schemaPath"], issue["message"]),
    )
    if issues:
        told: Mapping[str, JsonData] = {"eventName": event, "schemaHash": schema_hash(contract), "issues": issues}
        raise InputValidationError(f"Event payload validation failed for '{event}'", issues=told)


def _pointer(path: object) -> str:
    parts = [str(part).replace("~", "~0").replace("/", "~1") for part in path]  # type: ignore[attr-defined]
    return "".join(f"/{part}" for part in parts)

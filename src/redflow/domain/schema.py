"""Contracts of events: the one JSON Schema that all subscribers of an event agree on.

JSON Schema is Draft 2020-12 (json-schema.org/draft/2020-12). Remote references are never fetched.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Final

import orjson
from pydantic_core import SchemaError, SchemaValidator

from redflow.errors import InputValidationError
from redflow.types import JsonData

if TYPE_CHECKING:  # see check_payload
    from jsonschema import ValidationError
    from jsonschema.protocols import Validator

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
    from jsonschema import FormatChecker
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    validator = _validator()(orjson.loads(contract), format_checker=FormatChecker(), registry=Registry())
    try:
        issues = _issues(validator.iter_errors(data))
    except Unresolvable as exc:
        raise InputValidationError(
            f"Event payload validation failed for '{event}': its schema refers to {exc.ref!r:.200}, "
            "and what is elsewhere is never fetched"
        ) from exc
    if issues:
        told: Mapping[str, JsonData] = {"eventName": event, "schemaHash": schema_hash(contract), "issues": issues}
        raise InputValidationError(f"Event payload validation failed for '{event}'", issues=told)


def _issues(errors: Iterable[ValidationError]) -> list[dict[str, str]]:
    return sorted(
        (
            {
                "instancePath": _pointer(error.absolute_path),
                "keyword": str(error.validator),
                "message": error.message[:1000],
                "schemaPath": "#" + _pointer(error.absolute_schema_path),
            }
            for error in errors
        ),
        key=lambda issue: (issue["instancePath"], issue["schemaPath"], issue["message"]),
    )


@cache
def _validator() -> type[Validator]:
    """Draft 2020-12, its patterns matched in time that grows with the text only.

    Python's own regular expressions may take for ever (`(a+)+$`). Pydantic's take a step a character; what they
    can't do (look-around, back references) is not checked here, but by the model when the run starts.
    """
    from jsonschema import Draft202012Validator, validators

    made: type[Validator] = validators.extend(  # type: ignore[no-untyped-call] # reason: types-jsonschema leaves it so
        Draft202012Validator,
        {"pattern": _pattern, "patternProperties": _pattern_properties, "additionalProperties": _additional},
    )
    return made


@lru_cache(maxsize=256)
def _matcher(pattern: str) -> SchemaValidator | None:
    try:
        return SchemaValidator({"type": "str", "pattern": pattern})
    except SchemaError:
        return None


def _matches(pattern: str, text: str) -> bool | None:
    """Whether a pattern is found in a text; None if that can't be told in bounded time."""
    matcher = _matcher(pattern)
    return None if matcher is None else matcher.isinstance_python(text)


def _pattern(_: Validator, pattern: str, value: object, schema: object) -> Iterator[ValidationError]:
    from jsonschema import ValidationError

    if isinstance(value, str) and _matches(pattern, value) is False:
        yield ValidationError(f"{value[:100]!r} does not match {pattern!r}")


def _pattern_properties(
    validator: Validator, patterns: Mapping[str, JsonData], value: object, schema: object
) -> Iterator[ValidationError]:
    if not isinstance(value, dict):
        return
    for pattern, subschema in patterns.items():
        for name, item in value.items():
            if _matches(pattern, name):
                yield from _below(validator, item, subschema, name, pattern)


def _below(
    validator: Validator, item: JsonData, subschema: JsonData, name: str, pattern: str | None = None
) -> Iterator[ValidationError]:
    """The breaches of a part, with their paths from here."""
    for error in validator.evolve(schema=subschema).iter_errors(item):
        error.path.appendleft(name)
        if pattern is not None:
            error.schema_path.appendleft(pattern)
        yield error


def _additional(
    validator: Validator, subschema: JsonData, value: object, schema: Mapping[str, JsonData]
) -> Iterator[ValidationError]:
    from jsonschema import ValidationError

    if not isinstance(value, dict):
        return
    named, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    extra = [name for name in value if name not in named and not any(_matches(p, name) is not False for p in patterns)]
    if isinstance(subschema, dict):
        for name in extra:
            yield from _below(validator, value[name], subschema, name)
    elif not subschema and extra:
        shown = ", ".join(f"{name!r:.100}" for name in sorted(extra)[:10])
        yield ValidationError(f"Additional properties are not allowed: {shown}")


def _pointer(path: object) -> str:
    parts = [str(part).replace("~", "~0").replace("/", "~1") for part in path]  # type: ignore[attr-defined]
    return "".join(f"/{part}" for part in parts)

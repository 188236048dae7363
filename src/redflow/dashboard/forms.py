"""Forms: what a request's body says, and fields made from a JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs

from starlette.requests import Request

from redflow.dashboard.guard import MOST_BODY
from redflow.dashboard.site import Refused
from redflow.types import JsonValue

_MOST_FIELDS: Final = 1_000
FIELD: Final = "field."
"""What the names of fields made from a schema begin with."""


@dataclass(frozen=True, slots=True)
class Field:
    """An input of a form, made from a property of a schema.

    Attributes:
        name: of the property.
        kind: text, integer, number, boolean, choice, or json for all that no plain input can hold.
        required: whether it must be given.
        value: what it holds at first, as text.
        hint: what the schema says about it.
        choices: of a choice, as JSON texts.
    """

    name: str
    kind: str
    required: bool
    value: str = ""
    hint: str = ""
    choices: tuple[str, ...] = ()


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form; of several with one name the last.

    Raises:
        Refused: it is too large, or no form.
    """
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MOST_BODY:
            raise Refused(f"The form is too large: at most {MOST_BODY} bytes.")
    try:
        fields = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="strict")
    except ValueError as exc:
        raise Refused(f"The form can't be read: {exc}") from exc
    return {name: values[-1].replace("\r\n", "\n") for name, values in fields.items()}


def read_json(text: str, what: str) -> JsonValue:
    """The JSON of a text field; an empty one is null.

    Raises:
        Refused: it is no JSON; the text says where.
    """
    if not text.strip():
        return None
    try:
        value: JsonValue = json.loads(text)
    except json.JSONDecodeError as exc:
        raise Refused(f"{what} is not JSON: {exc.msg} (line {exc.lineno}, column {exc.colno}).") from exc
    except (ValueError, RecursionError) as exc:
        raise Refused(f"{what} can't be read: {exc}.") from exc
    return value


def fields_of(schema: Mapping[str, JsonValue] | None) -> list[Field] | None:
    """The fields of an object's schema; None where one JSON text has to do."""
    if schema is None or schema.get("type") != "object":
        return None
    properties, required = schema.get("properties"), schema.get("required")
    if not isinstance(properties, dict) or not properties or len(properties) > 50:
        return None
    needed = required if isinstance(required, list) else []
    return [_field(name, of, name in needed, schema) for name, of in properties.items()]


def _field(name: str, of: JsonValue, required: bool, schema: Mapping[str, JsonValue]) -> Field:
    prop = _resolved(of, schema)
    default = prop.get("default")
    told = [str(prop[key]) for key in ("description",) if isinstance(prop.get(key), str)]
    told += [f"{word} {prop[key]}" for key, word in _LIMITS if isinstance(prop.get(key), int | float | str)]
    hint = "; ".join(told)
    choices = prop.get("enum")
    if isinstance(choices, list) and 0 < len(choices) <= 100:
        texts = tuple(json.dumps(choice, ensure_ascii=False) for choice in choices)
        return Field(name, "choice", required, "" if default is None else json.dumps(default), hint, texts)
    kind = {"string": "text", "integer": "integer", "number": "number", "boolean": "boolean"}.get(
        str(prop.get("type")), "json"
    )
    plain = isinstance(default, str) and kind == "text"
    value = "" if default is None else str(default) if plain else json.dumps(default, ensure_ascii=False)
    return Field(name, kind, required, value, hint)


_LIMITS: Final = (
    ("minimum", "at least"),
    ("exclusiveMinimum", "more than"),
    ("maximum", "at most"),
    ("exclusiveMaximum", "less than"),
    ("pattern", "pattern"),
    ("format", "as"),
)


def _resolved(of: JsonValue, schema: Mapping[str, JsonValue]) -> Mapping[str, JsonValue]:
    """A property's schema, one reference within the document followed; nothing is ever fetched."""
    if not isinstance(of, dict):
        return {}
    ref = of.get("$ref")
    definitions = schema.get("$defs")
    if isinstance(ref, str) and ref.startswith("#/$defs/") and isinstance(definitions, dict):
        found = definitions.get(ref.removeprefix("#/$defs/"))
        return found if isinstance(found, dict) else {}
    return of


def input_of(form: Mapping[str, str], fields: Sequence[Field] | None) -> JsonValue:
    """The input that a start form describes: its JSON text, or an object of its fields.

    Raises:
        Refused: a field does not hold what it should; the text names it.
    """
    if fields is None or form.get("as") == "json":
        return read_json(form.get("input", ""), "The input")
    made: dict[str, JsonValue] = {}
    for field in fields:
        text = form.get(FIELD + field.name, "")
        if not text.strip() and not (field.kind == "text" and field.required):
            if field.required and field.kind not in ("json", "boolean"):
                raise Refused(f"{field.name} is missing.")
            if not field.required:
                continue
        made[field.name] = text if field.kind == "text" else read_json(text, field.name)
    return made

"""Contracts of events: their canonical form, and how data is held to them."""

from __future__ import annotations

import json
import socket
import time

import orjson
import pytest
from pydantic import BaseModel, Field

from redflow.domain.schema import canonical, check_payload, contract_of, schema_hash
from redflow.errors import InputValidationError
from redflow.types import JsonData


def told_breaches(contract: JsonData, data: JsonData) -> list[dict[str, str]]:
    with pytest.raises(InputValidationError) as caught:
        check_payload("paid", json.dumps(contract), data)
    assert isinstance(caught.value.issues, dict)
    issues: list[dict[str, str]] = caught.value.issues["issues"]
    return issues


def test_the_example_of_the_contract() -> None:
    schema = {
        "title": "Order",
        "description": "what was ordered",
        "required": ["user_id", "status"],
        "properties": {
            "user_id": {"title": "User", "type": "string", "default": "nobody"},
            "status": {"type": "string", "enum": ["pending", "active"]},
        },
        "type": "object",
    }
    assert canonical(schema) == (
        '{"properties":{"status":{"enum":["active","pending"],"type":"string"},"user_id":{"type":"string"}},'
        '"required":["status","user_id"],"type":"object"}'
    )


def test_remarks_are_dropped() -> None:
    remarks = {
        "$id": "x",
        "$schema": "x",
        "default": {"a": 1},
        "deprecated": True,
        "description": "x",
        "examples": [1],
        "readOnly": True,
        "title": "x",
        "writeOnly": True,
    }
    assert canonical({"items": {"type": "string", **remarks}, **remarks}) == '{"items":{"type":"string"}}'


def test_properties_of_those_names_are_kept() -> None:
    names = ("title", "description", "default", "examples", "$id", "required", "enum")
    schema = {"properties": {name: {"type": "string", "title": name} for name in names}}
    assert orjson.loads(canonical(schema)) == {"properties": {name: {"type": "string"} for name in names}}
    for holder in ("patternProperties", "$defs", "definitions", "dependentSchemas"):
        assert orjson.loads(canonical({holder: {"title": {"title": "x"}}})) == {holder: {"title": {}}}


def test_values_are_no_schemas() -> None:
    assert canonical({"const": {"title": 1}}) == '{"const":{"title":1}}'
    assert canonical({"enum": [{"title": 2}, {"title": 1}]}) == '{"enum":[{"title":1},{"title":2}]}'


@pytest.mark.parametrize(
    ("keyword", "one", "other"),
    [
        ("required", ["a", "b"], ["b", "a"]),
        ("type", ["null", "string"], ["string", "null"]),
        ("enum", ["a", 1], [1, "a"]),
        *[
            (word, [{"type": "null"}, {"minimum": 1}], [{"minimum": 1}, {"type": "null"}])
            for word in ("allOf", "anyOf")
        ],
        ("oneOf", [{"const": 1}, {"const": 2, "title": "x"}], [{"const": 2}, {"const": 1}]),
    ],
)
def test_lists_whose_order_means_nothing_are_sorted(keyword: str, one: JsonData, other: JsonData) -> None:
    assert canonical({keyword: one}) == canonical({keyword: other})


def test_the_order_of_a_tuple_counts() -> None:
    one, other = ({"prefixItems": [{"type": a}, {"type": b}]} for a, b in (("null", "string"), ("string", "null")))
    assert canonical(one) != canonical(other)


def test_models_that_say_the_same_have_the_same_contract() -> None:
    class One(BaseModel):
        a: int
        b: str = Field("x", description="a letter")

    class Other(BaseModel):
        """Another remark."""

        b: str = "y"
        a: int

    class NoJsonSchema:
        pass

    assert contract_of(One) == contract_of(Other) is not None
    assert contract_of(NoJsonSchema) is contract_of(None) is None


def test_breaches_are_told_by_json_pointers() -> None:
    contract: JsonData = {
        "type": "object",
        "properties": {"a/b~c": {"items": {"type": "integer"}}, "n": {"maximum": 3}},
        "required": ["n"],
    }
    check_payload("paid", json.dumps(contract), {"n": 1, "a/b~c": [1]})
    assert told_breaches(contract, {"a/b~c": [1, "x"]}) == [
        {
            "instancePath": "",
            "keyword": "required",
            "message": "'n' is a required property",
            "schemaPath": "#/required",
        },
        {
            "instancePath": "/a~1b~0c/1",
            "keyword": "type",
            "message": "'x' is not of type 'integer'",
            "schemaPath": "#/properties/a~1b~0c/items/type",
        },
    ]


def test_the_error_names_the_event_and_the_contract() -> None:
    contract = '{"type":"string"}'
    with pytest.raises(InputValidationError, match=r"^Event payload validation failed for 'paid'$") as caught:
        check_payload("paid", contract, 5)
    assert isinstance(caught.value.issues, dict)
    assert caught.value.issues.keys() == {"eventName", "schemaHash", "issues"}
    assert (caught.value.issues["eventName"], caught.value.issues["schemaHash"]) == ("paid", schema_hash(contract))


@pytest.mark.parametrize(
    ("format", "good", "bad"),
    [
        ("date-time", "2024-05-06T07:08:09Z", "yesterday"),
        ("uri", "https://example.org/x", "no uri at all"),
        ("email", "a@example.org", "nobody"),
    ],
)
def test_formats_are_checked(format: str, good: str, bad: str) -> None:
    contract = {"type": "string", "format": format}
    check_payload("paid", json.dumps(contract), good)
    [issue] = told_breaches(contract, bad)
    assert issue["keyword"] == "format"


def test_breaches_are_sorted() -> None:
    contract = {"properties": {name: {"type": "string"} for name in "cab"}}
    paths = [issue["instancePath"] for issue in told_breaches(contract, {"b": 1, "c": 2, "a": 3})]
    assert paths == ["/a", "/b", "/c"]


@pytest.mark.parametrize("keyword", ["pattern", "patternProperties"])
def test_a_pattern_takes_no_time_that_explodes(keyword: str) -> None:
    evil = "a" * 40 + "!"
    contract: JsonData = {"pattern": "(a+)+$"} if keyword == "pattern" else {"patternProperties": {"(a+)+$": False}}
    started = time.monotonic()
    if keyword == "pattern":
        assert [issue["keyword"] for issue in told_breaches(contract, evil)] == ["pattern"]
    else:
        check_payload("e", json.dumps(contract), {evil: 1})
    assert time.monotonic() - started < 2.0


def test_patterns_mean_what_they_meant() -> None:
    contract = {
        "properties": {"a": {"pattern": "^[a-c]+$"}},
        "patternProperties": {"^x-": {"type": "integer"}},
        "additionalProperties": False,
    }
    check_payload("paid", json.dumps(contract), {"a": "abc", "x-1": 5})
    found = told_breaches(contract, {"a": "abd", "x-1": "5", "other": 1})
    assert [(issue["keyword"], issue["instancePath"]) for issue in found] == [
        ("additionalProperties", ""),
        ("pattern", "/a"),
        ("type", "/x-1"),
    ]
    assert [issue["schemaPath"] for issue in found] == [
        "#/additionalProperties",
        "#/properties/a/pattern",
        "#/patternProperties/^x-/type",
    ]
    typed = {"additionalProperties": {"type": "integer"}}
    assert [issue["instancePath"] for issue in told_breaches(typed, {"a": 1, "b": "x"})] == ["/b"]


def test_a_pattern_that_can_not_be_bounded_is_left_to_the_model() -> None:
    check_payload("e", json.dumps({"pattern": "(?=a)(a+)+$"}), "a" * 40 + "!")


def test_a_remote_reference_is_never_fetched() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/schema.json"
        with pytest.raises(InputValidationError, match=r"refers to .*/schema\.json.* never fetched"):
            check_payload("e", json.dumps({"$ref": url}), {})
        with pytest.raises(TimeoutError):
            server.accept()
    check_payload("e", json.dumps({"$ref": "#/$defs/A", "$defs": {"A": {"type": "object"}}}), {})

"""The OpenAPI document: every route is in it, with examples that fit and all that may come back."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import jsonschema_rs
import pytest
from fastapi.routing import APIRoute
from openapi_spec_validator import OpenAPIV31SpecValidator

from gateway.accounts import mapping as accounts
from gateway.accounts import people_mapping as people
from gateway.app import ROUTERS, create_app, document_of
from gateway.dialects.agents.mapping import no_members
from gateway.dialects.runtime import mapping as runtime
from gateway.dialects.runtime.trace_example import TRACE
from gateway.errors import MEDIA_TYPE, problem
from gateway.openapi import PUBLIC
from gateway.republishing import wanted_of
from libs.core.errors import ERRORS, FieldError, PawlError
from libs.core.verification import verify
from libs.rpc.context import CallContext, bind

# Of the clients behind it the application needs nothing to say what it serves.
DOCUMENT = document_of(create_app(SimpleNamespace(version="pawl-test")))  # type: ignore[arg-type]
LEFT_OUT = {
    "/openapi.json": "it is the document itself",
    "/dashboard": "a page for people",
    "/billing": "a page for people",
}
UNSAID = 405
"""Of methods that a path does not know, which are no operations."""
STREAM = "text/event-stream"
PARSERS: dict[str, Callable[[dict[str, Any]], object]] = {
    "ExecuteRequest": partial(runtime.submission, options=runtime.Options()),
    "BatchRequest": partial(runtime.batch, idempotency_key=None),
    "ReplayRequest": partial(runtime.replay, task_id="x", options=runtime.Options()),
    "CancelTask": no_members,
    "CreateTenant": accounts.tenant_wanted,
    "UpdateTenant": partial(accounts.tier_wanted, tenant="acme"),
    "CreateKey": accounts.key_wanted,
    "RotateKey": partial(accounts.rotation_wanted, key_id="x"),
    "CreateUser": people.user_wanted,
    "UpdateUser": partial(people.role_wanted, number=1),
    "ReplayEvents": wanted_of,
}

Object = dict[str, Any]


def operations() -> dict[str, Object]:
    return {
        f"{method.upper()} {path}": operation
        for path, found in DOCUMENT["paths"].items()
        for method, operation in found.items()
    }


OPERATIONS = operations()
BY_ID = {operation["operationId"]: operation for operation in OPERATIONS.values()}
every_operation = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)


def resolved(value: Object) -> Object:
    """What a reference refers to, or the value itself; KeyError when there is nothing."""
    while "$ref" in value:
        found: Any = DOCUMENT
        for part in value["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        value = found
    return value


def references(value: Any) -> Iterator[Object]:
    """Every reference in a value; what an example shows is none."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value
        for name, inner in value.items():
            if name not in {"example", "examples"}:
                yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def answers(operation: Object) -> Iterator[tuple[str, Object]]:
    for status, answer in operation["responses"].items():
        yield status, resolved(answer)


def contents(operation: Object) -> Iterator[tuple[str, Object]]:
    """Every media type of the body and of the answers, and what is said of it."""
    yield from operation.get("requestBody", {}).get("content", {}).items()
    for _, answer in answers(operation):
        yield from answer.get("content", {}).items()


def examples(content: Object) -> list[Any]:
    own = [content["example"]] if "example" in content else []
    return own + list(resolved(content["schema"]).get("examples", []))


def problems(schema: Object, value: Any) -> list[str]:
    """What does not fit the schema, formats included."""
    validator = jsonschema_rs.Draft202012Validator(
        schema | {"components": DOCUMENT["components"]}, validate_formats=True
    )
    return [error.message for error in validator.iter_errors(value)]


def names(operation: Object) -> set[str]:
    return {parameter["name"] for parameter in operation.get("parameters", [])}


def test_the_document_is_valid_openapi() -> None:
    assert DOCUMENT["openapi"] == "3.1.0"
    assert [error.message for error in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()] == []


def test_every_route_is_in_the_document_or_left_out_for_a_reason() -> None:
    routes = [r for router in ROUTERS for r in router.routes if isinstance(r, APIRoute)]
    served = {f"{method} {r.path_format}" for r in routes for method in r.methods or ()}

    assert served - set(OPERATIONS) == {f"GET {path}" for path in LEFT_OUT}
    assert set(OPERATIONS) - served == set()


def test_every_reference_refers_to_something() -> None:
    found = list(references(DOCUMENT))

    assert len(found) > 500
    for reference in found:
        assert resolved(reference)


def test_every_operation_has_an_id_of_its_own_and_a_tag_with_a_description() -> None:
    tags = {tag["name"]: tag["description"] for tag in DOCUMENT["tags"]}

    assert len(BY_ID) == len(OPERATIONS)
    assert {tag for operation in OPERATIONS.values() for tag in operation["tags"]} == set(tags)
    assert all(tags.values())


@every_operation
def test_an_operation_says_what_it_does(operation: Object) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", operation["operationId"])
    assert len(operation["tags"]) == 1
    assert operation["summary"]
    assert operation["description"].endswith(".")
    assert all(parameter["description"] for parameter in operation.get("parameters", []))


@every_operation
def test_every_body_and_answer_has_examples_that_fit(operation: Object) -> None:
    for media_type, content in contents(operation):
        shown = examples(content)
        assert shown, media_type
        for example in shown:
            assert problems(content["schema"], example) == []


def test_every_example_of_a_schema_fits_it() -> None:
    wrong = [
        (name, example, found)
        for name, schema in DOCUMENT["components"]["schemas"].items()
        for example in schema.get("examples", [])
        if (found := problems(schema, example))
    ]

    assert wrong == []


@pytest.mark.parametrize("name", PARSERS)
def test_the_gateway_reads_every_example_of_a_body(name: str) -> None:
    for example in DOCUMENT["components"]["schemas"][name]["examples"]:
        PARSERS[name](example)


def test_every_body_is_tried_as_the_gateway_reads_it() -> None:
    bodies = [operation["requestBody"] for operation in OPERATIONS.values() if body_of(operation)]

    named = {
        content["schema"]["$ref"].rpartition("/")[2]
        for body in bodies
        for content in body["content"].values()
    }

    assert named == set(PARSERS)


def body_of(operation: Object) -> Object | None:
    found: Object | None = operation.get("requestBody")
    return found


@pytest.mark.parametrize("name", PARSERS)
def test_a_body_is_as_strict_as_the_gateway(name: str) -> None:
    schema = DOCUMENT["components"]["schemas"][name]
    example = schema["examples"][0]

    assert schema["additionalProperties"] is False
    assert problems(schema, example | {"nothing_of_ours": 1})
    assert all(problems(schema, example | {member: None}) for member in schema["properties"] or ())


def test_a_body_may_be_left_out_where_an_empty_one_means_the_same() -> None:
    optional = {
        operation["operationId"]
        for operation in OPERATIONS.values()
        if (body := body_of(operation)) and not body["required"]
    }

    assert optional == {"cancel_task", "replay_task", "rotate_key"}
    assert names(BY_ID["execute_task"]) == {"wait", "Prefer", "Idempotency-Key"}
    assert "HTTPValidationError" not in DOCUMENT["components"]["schemas"]


@every_operation
def test_an_operation_names_every_refusal(operation: Object) -> None:
    refusals = {
        status for status, answer in answers(operation) if MEDIA_TYPE in answer.get("content", ())
    }
    anyone = {"400", "404", "431", "500", "503"}
    with_key = anyone | {"401", "403", "422", "429", "504"}
    with_body = with_key | {"408", "409", "413", "415"}

    assert with_body == {str(kind.http) for kind in ERRORS.values()} - {str(UNSAID)}
    if operation.get("security") == PUBLIC["security"]:
        assert refusals == anyone
    elif body_of(operation):
        assert refusals == with_body
    else:
        assert refusals - {"409"} == with_key


@pytest.mark.parametrize("code", sorted(code for code in ERRORS if ERRORS[code].http != UNSAID))
def test_a_refusal_has_the_shape_and_the_headers_that_are_documented(code: str) -> None:
    error = PawlError(code, "x", errors=(FieldError(field="a[0].b", code="required", detail="y"),))
    with bind(CallContext(request_id="req_x")):
        answer = problem(error)

    said = next(
        found
        for found in DOCUMENT["components"]["responses"].values()
        if found["content"][MEDIA_TYPE]["example"]["status"] == answer.status_code
    )
    known = {name.lower() for name in said["headers"]} | {"content-type", "content-length"}
    assert code in said["description"]
    assert set(answer.headers) <= known
    assert problems(said["content"][MEDIA_TYPE]["schema"], json.loads(bytes(answer.body))) == []


@every_operation
def test_every_answer_names_its_headers(operation: Object) -> None:
    must = {"401": "WWW-Authenticate", "429": "Retry-After", "503": "Retry-After", "304": "ETag"}
    for status, answer in answers(operation):
        assert {"X-Request-Id", "X-Content-Type-Options", "Cache-Control"} <= set(answer["headers"])
        assert status not in must or must[status] in answer["headers"]
        for header in answer["headers"].values():
            said = resolved(header)
            assert said["description"]
            assert problems(said["schema"], said["example"]) == []


@every_operation
def test_a_request_header_that_is_heeded_is_answered(operation: Object) -> None:
    """Each header that is read has one that says what came of it."""
    heeded = {
        "If-None-Match": "ETag",
        "Idempotency-Key": "Idempotent-Replayed",
        "Prefer": "Preference-Applied",
    }
    granted = [answer for status, answer in answers(operation) if status[0] == "2"]
    said = {name for answer in granted for name in answer["headers"]}

    assert {heeded[name] for name in names(operation) & set(heeded)} == said & set(heeded.values())
    assert ("If-None-Match" in names(operation)) is ("304" in operation["responses"])


def test_every_link_leads_to_parameters_of_an_operation() -> None:
    links = [
        link
        for operation in OPERATIONS.values()
        for _, answer in answers(operation)
        for link in answer.get("links", {}).values()
    ]

    assert len(links) > 20
    for link in links:
        assert set(link["parameters"]) <= names(BY_ID[link["operationId"]])


def test_every_list_links_to_its_next_page() -> None:
    lists = {
        operation["operationId"]
        for operation in OPERATIONS.values()
        if "cursor" in names(operation)
    }
    linked = {
        operation["operationId"]
        for operation in OPERATIONS.values()
        if "NextPage" in operation["responses"].get("200", {}).get("links", {})
    }

    assert lists == linked
    assert len(lists) == 6


def test_the_example_of_a_stream_shows_events() -> None:
    shown = [
        content["example"]
        for operation in OPERATIONS.values()
        for media_type, content in contents(operation)
        if media_type == STREAM
    ]

    assert len(shown) == 2
    for example in shown:
        data = re.search(r"^data: (.+)$", example, re.MULTILINE)
        assert data is not None
        assert problems({"$ref": "#/components/schemas/Event"}, json.loads(data[1])) == []


def test_the_example_of_a_trace_verifies() -> None:
    assert verify(TRACE).holds

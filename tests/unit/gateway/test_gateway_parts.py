"""Media types, request ids, problems, methods, settings: the small rules of the gateway."""

from __future__ import annotations

import json
import time

import pytest

from gateway.app import ROUTERS
from gateway.body import check_media_type
from gateway.config import Settings
from gateway.errors import problem, problem_body
from gateway.methods import Methods
from gateway.request_id import request_id_of, traceparent_of
from libs.core.errors import ERRORS, FieldError, PawlError
from libs.process.env import ConfigError
from libs.rpc.context import CallContext, bind

PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    "text",
    [
        "application/json",
        "APPLICATION/JSON",
        "application/json;charset=utf-8",
        'application/json ; charset="UTF-8" ;',
        "application/json; charset=utf8",
    ],
)
def test_json_in_utf8_is_allowed(text: str) -> None:
    check_media_type(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "json",
        "text/json",
        "application/json5",
        "application/json; charset=latin-1",
        "application/json; charset=utf-8x",
        "application/json charset=utf-8",
        "application/json\n",
        "application/json; a=b",
        "application/json" + "; " * 1_000_000,
        "application/json;" + " " * 100 + "x",
    ],
)
def test_other_media_types_are_refused_quickly(text: str) -> None:
    begin = time.perf_counter()

    with pytest.raises(PawlError) as caught:
        check_media_type(text)

    assert caught.value.code == "unsupported_media_type"
    assert len(caught.value.message) < 400
    assert time.perf_counter() - begin < 0.05


def test_a_sane_request_id_is_kept() -> None:
    assert request_id_of([b"a-1"]) == "a-1"


@pytest.mark.parametrize(
    "sent", [[], [b""], [b"a b"], [b"a\n"], [b"\xe9"], [b"a"] * 2, [b"a" * 129]]
)
def test_another_request_id_is_replaced(sent: list[bytes]) -> None:
    assert request_id_of(sent).startswith("req_")


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ([PARENT], PARENT.decode()),
        ([], ""),
        ([PARENT, PARENT], ""),
        ([PARENT.upper()], ""),
        ([PARENT + b"-x"], ""),
        ([PARENT + b"\n"], ""),
        ([b"ff" + PARENT[2:]], ""),
        ([b"01" + PARENT[2:] + b"x"], ""),
        ([b"01" + PARENT[2:]], PARENT.decode()),
        ([b"cc" + PARENT[2:] + b"-of-later"], PARENT.decode()),
        ([b"01" + PARENT[2:-2] + b"ff"], PARENT.decode()[:-2] + "03"),
        ([PARENT.replace(b"0af7651916cd43dd8448eb211c80319c", b"0" * 32)], ""),
    ],
)
def test_a_traceparent_is_kept_when_it_is_one(sent: list[bytes], kept: str) -> None:
    assert traceparent_of(sent) == kept


@pytest.mark.parametrize("code", ERRORS)
def test_every_code_has_its_status_and_shape(code: str) -> None:
    with bind(CallContext(request_id="r")):
        answer = problem(PawlError(code, "said"))

    body = json.loads(bytes(answer.body))
    assert answer.status_code == ERRORS[code].http
    assert answer.media_type == "application/problem+json"
    assert body == {
        "type": f"urn:pawl:problem:{code}",
        "title": ERRORS[code].title,
        "status": ERRORS[code].http,
        "detail": "said",
        "code": code,
        "request_id": "r",
        "errors": [],
    }
    assert ("www-authenticate" in answer.headers) is (answer.status_code == 401)
    assert ("retry-after" in answer.headers) is (answer.status_code == 503)


def test_a_problem_can_always_be_written() -> None:
    field = FieldError(field="a\ud800", code="x", detail="\udfff")

    body = problem_body(
        PawlError("bad_request", "\ud800" * 9999, errors=(field,) * 999), request_id=""
    )

    assert len(json.dumps(body, ensure_ascii=False).encode()) < 20_000


def test_retry_after_is_whole_seconds() -> None:
    answer = problem(PawlError("rate_limited", "slow", retry_after_seconds=1.2))

    assert answer.headers["retry-after"] == "2"


def test_methods_of_a_path_are_those_of_all_its_routes() -> None:
    methods = Methods(ROUTERS)

    assert methods.of("/v1/keys") == ["GET", "HEAD", "OPTIONS", "POST"]
    assert methods.of("/v1/keys/x") == ["DELETE", "GET", "HEAD", "OPTIONS"]
    assert methods.of("/nothing") == []


def test_a_path_of_its_own_is_no_task_of_that_name() -> None:
    methods = Methods(ROUTERS)

    assert methods.of("/api/v1/tasks/execute") == ["OPTIONS", "POST"]
    assert methods.of("/api/v1/tasks/usage") == ["GET", "HEAD", "OPTIONS"]


def test_settings_name_every_bad_variable() -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.from_env({"PAWL_HTTP_LISTEN": "x", "PAWL_LOG_LEVEL": "loud"})

    for name in (
        "PAWL_HTTP_LISTEN",
        "PAWL_LOG_LEVEL",
        "PAWL_AUTH_TARGET",
        "PAWL_ARTIFACT_TARGET",
        "PAWL_SERVICE_KEY_FILE",
    ):
        assert name in str(caught.value)


def test_settings_have_a_version() -> None:
    targets = {
        f"PAWL_{name}_TARGET": "h:1" for name in ("AUTH", "PLANNER", "SCHEDULER", "ARTIFACT")
    } | {"PAWL_SERVICE_KEY_FILE": "/keys/service_gateway.jwk"}

    assert Settings.from_env(targets).version_label.startswith("pawl-")
    assert Settings.from_env(targets | {"PAWL_VERSION_LABEL": "prod"}).version_label == "prod"

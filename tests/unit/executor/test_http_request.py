"""http_request: what is sent, what the output says, how it fails."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from libs.core.canonical import Json
from libs.core.errors import FailureCode, StepFailed
from libs.core.json_schema import compile_schema
from libs.core.tool_spec import Effect, ToolExample
from libs.net.egress_rules import EgressRules
from libs.net.http_client import HttpClient
from services.executor.tools.http_content import MAX_BODY_BYTES
from services.executor.tools.http_request import SPEC, HttpRequestTool
from tests.executor_world import make_context
from tests.net_world import (
    PUBLIC,
    FakeResolver,
    Handler,
    LoopbackNetwork,
    Peer,
    http_answer,
    peer,
    self_signed,
)

INPUT = compile_schema(SPEC.input_schema)
OUTPUT = compile_schema(SPEC.output_schema)
URL = "http://ok.example/"


def tool_for(server: Peer) -> HttpRequestTool:
    """The tool in a world where every name is public and leads to the server."""
    network = LoopbackNetwork(server.port)
    return HttpRequestTool(
        HttpClient(EgressRules(), resolver=FakeResolver([PUBLIC]), network=network)
    )


@asynccontextmanager
async def running(answer: bytes | Handler) -> AsyncIterator[tuple[HttpRequestTool, Peer]]:
    async with peer(answer) as server:
        yield tool_for(server), server


async def called(answer: bytes | Handler, **arguments: Json) -> dict[str, Json]:
    """The output for a server that answers so; input and output are held against the schemas."""
    arguments = {"url": URL} | arguments
    assert INPUT.violations(arguments) == []
    async with running(answer) as (tool, _):
        output = await tool.call(arguments, make_context())
    assert OUTPUT.violations(output) == []
    assert isinstance(output, dict)
    return output


async def failure(
    answer: bytes | Handler = b"", more: dict[str, Json] | None = None, **arguments: Json
) -> StepFailed:
    arguments = {"url": URL} | (more or {}) | arguments
    assert INPUT.violations(arguments) == []
    async with running(answer) as (tool, _):
        with pytest.raises(StepFailed) as failed:
            await tool.call(arguments, make_context())
    return failed.value


def typed(body: bytes, media_type: str) -> bytes:
    return http_answer(body, headers=[("Content-Type", media_type)])


async def test_json_is_parsed() -> None:
    answer = http_answer(
        b'{"a": [1.0, "\xc3\xa9"]}',
        headers=[("Content-Type", "application/json; charset=utf-8"), ("Date", "now")],
    )

    assert await called(answer, url="http://OK.example/x#y") == {
        "status": 200,
        "url": "http://ok.example/x",
        "headers": {"content-type": "application/json; charset=utf-8"},
        "body": {"a": [1.0, "é"]},
        "body_type": "json",
    }


@pytest.mark.parametrize(
    "media_type", ["text/json", "application/problem+json", "APPLICATION/JSON"]
)
async def test_every_kind_of_json_is_parsed(media_type: str) -> None:
    assert (await called(typed(b"[]", media_type)))["body"] == []


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "not JSON"),
        (b'{"a":1,"a":2}', "occurs twice"),
        (b"[12345678901234567890]", "beyond"),
        (b"[1e999]", "too large for a double"),
        (b"[NaN]", "NaN"),
        (b"[" * 64 + b"]" * 64, "nested deeper than 63"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b'"\\ud800"', "surrogate"),
    ],
)
async def test_json_that_is_not_strict_is_text(body: bytes, said: str) -> None:
    output = await called(typed(body, "application/json"))

    assert (output["body"], output["body_type"]) == (body.decode(), "text")
    assert said in str(output["json_error"])


@pytest.mark.parametrize(
    ("media_type", "body", "expected"),
    [
        ("text/plain", "é".encode(), ("text", "é")),
        ("text/html; charset=ISO-8859-1", b"\xe9", ("text", "é")),
        ('text/html;charset="windows-1252"', b"\x80", ("text", "€")),
        ("application/xml", b"<a/>", ("text", "<a/>")),
        ("image/svg+xml", b"<svg/>", ("text", "<svg/>")),
        ("text/plain", b"\xff", ("base64", "/w==")),
        ("text/plain", b"a\x00b", ("base64", "YQBi")),
        ("text/plain; charset=utf-16", b"a\x00", ("base64", "YQA=")),
        ("text/plain; charset=rot13", b"abc", ("base64", "YWJj")),
        ("text/plain; charset=unicode_escape", b"\\x41", ("base64", "XHg0MQ==")),
        ("application/octet-stream", b"text", ("base64", "dGV4dA==")),
        ("image/png", b"\x89PNG", ("base64", "iVBORw==")),
        ("application/pdf", b"%PDF", ("base64", "JVBERg==")),
        ("nonsense", b"text", ("base64", "dGV4dA==")),
        ("application/json", b"\xff\xfe", ("base64", "//4=")),
        ("text/plain", b"", ("none", None)),
        ("application/json", b"", ("none", None)),
    ],
)
async def test_bodies_are_read_by_their_media_type(
    media_type: str, body: bytes, expected: tuple[str, Json]
) -> None:
    output = await called(typed(body, media_type))

    assert (output["body_type"], output["body"]) == expected


async def test_a_body_without_a_type_is_text_if_it_can_be() -> None:
    assert (await called(http_answer(b"text")))["body_type"] == "text"
    assert (await called(http_answer(b"\xff")))["body_type"] == "base64"
    twice = http_answer(b"[]", headers=[("Content-Type", "text/a"), ("Content-Type", "image/b")])
    assert (await called(twice))["body_type"] == "text"


async def test_large_bodies_are_whole() -> None:
    text = json.dumps(["é" * 10] * 5000, ensure_ascii=False)

    output = await called(typed(text.encode(), "application/json"))

    assert output["body"] == json.loads(text)


async def test_only_named_headers_are_in_the_output() -> None:
    answer = http_answer(
        status=302,
        headers=[
            ("Date", "now"),
            ("Location", "/next"),
            ("Link", "<a>"),
            ("link", "<b>"),
            ("Set-Cookie", "a=1, 2"),
            ("Set-Cookie", "b=2"),
            ("X-Other", "\xe9"),
        ],
    )

    output = await called(answer, response_headers=["LINK", "set-cookie", "x-other", "missing"])

    assert output["headers"] == {
        "link": "<a>, <b>",
        "location": "/next",
        "set-cookie": "a=1, 2\nb=2",
        "x-other": "é",
    }


async def test_the_same_answer_gives_the_same_output_whatever_the_date() -> None:
    one, other = (
        http_answer(b"x", headers=[("Date", date), ("X-Request-Id", date)]) for date in ("1", "2")
    )

    assert await called(one) == await called(other)


@pytest.mark.parametrize("status", [201, 204, 304, 404, 429, 500])
async def test_every_status_is_a_success(status: int) -> None:
    assert (await called(http_answer(status=status)))["status"] == status


@pytest.mark.parametrize(
    ("arguments", "line", "headers", "body"),
    [
        (
            {},
            b"GET / HTTP/1.1",
            [b"accept: */*", b"user-agent: pawl"],
            b"",
        ),
        (
            {"method": "POST", "json": {"b": 1, "a": 2.0}},
            b"POST / HTTP/1.1",
            [b"content-type: application/json", b"Content-Length: 13"],
            b'{"a":2,"b":1}',
        ),
        (
            {"method": "PUT", "text": "é", "headers": {"Content-Type": "t/x", "User-Agent": "me"}},
            b"PUT / HTTP/1.1",
            [b"Content-Type: t/x", b"User-Agent: me", b"Content-Length: 2"],
            "é".encode(),
        ),
        ({"method": "PATCH", "json": None}, b"PATCH / HTTP/1.1", [b"Content-Length: 4"], b"null"),
        ({"method": "POST"}, b"POST / HTTP/1.1", [b"Content-Length: 0"], b""),
        ({"method": "DELETE"}, b"DELETE / HTTP/1.1", [], b""),
        ({"method": "HEAD", "headers": {"Accept": ""}}, b"HEAD / HTTP/1.1", [b"Accept: "], b""),
    ],
)  # fmt: skip
async def test_the_request_is_what_was_asked_for(
    arguments: dict[str, Json], line: bytes, headers: list[bytes], body: bytes
) -> None:
    async with running(http_answer()) as (tool, server):
        await tool.call({"url": URL} | arguments, make_context())

    head, _, sent = server.requests[0].partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == line
    assert set(headers) <= set(lines)
    assert len({name.split(b":")[0].lower() for name in lines}) == len(lines)
    assert (b"content-length" in head.lower()) == (body != b"" or b"Content-Length: 0" in headers)
    assert sent == body


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"url": ""},
        {"url": "x" * 2049},
        {"url": URL, "method": "CONNECT"},
        {"url": URL, "method": "get"},
        {"url": URL, "json": 1, "text": "x"},
        {"url": URL, "headers": {"A B": "x"}},
        {"url": URL, "headers": {"A\r\nB": "x"}},
        {"url": URL, "headers": {"A:": "x"}},
        {"url": URL, "headers": {"": "x"}},
        {"url": URL, "headers": {"Ä": "x"}},
        {"url": URL, "headers": {"A": "x\r\nB: y"}},
        {"url": URL, "headers": {"A": "x\n"}},
        {"url": URL, "headers": {"A": " x"}},
        {"url": URL, "headers": {"A": "x\x00"}},
        {"url": URL, "headers": {"A": "é"}},
        {"url": URL, "headers": {"A": 1}},
        {"url": URL, "headers": {f"A{number}": "x" for number in range(51)}},
        {"url": URL, "timeout_seconds": 0},
        {"url": URL, "timeout_seconds": -1},
        {"url": URL, "response_headers": ["A B"]},
        {"url": URL, "verify": False},
        {"url": URL, "follow_redirects": True},
    ],
)
def test_the_schema_refuses(arguments: dict[str, Json]) -> None:
    assert not INPUT.accepts(arguments)


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "x"},
        {"CONTENT-LENGTH": "1"},
        {"Transfer-Encoding": "chunked"},
        {"connection": "keep-alive"},
        {"Proxy-Authorization": "x"},
        {"Upgrade": "h2c"},
        {"Expect": "100-continue"},
        {"Accept-Encoding": "br"},
        {"TE": "trailers"},
        {"X-A": "1", "x-a": "2"},
        {f"A{number}": "x" * 8000 for number in range(3)},
    ],
)
async def test_headers_that_are_not_the_callers_are_refused(headers: dict[str, Json]) -> None:
    failed = await failure(headers=headers)

    assert (failed.code, failed.reason) == (FailureCode.INPUT_SCHEMA, "HEADER")


@pytest.mark.parametrize(
    "arguments",
    [
        {"json": {}},
        {"method": "HEAD", "text": ""},
        {"method": "POST", "text": "é" * (MAX_BODY_BYTES // 2 + 1)},
    ],
)
async def test_bodies_that_cannot_be_sent_are_refused(arguments: dict[str, Json]) -> None:
    failed = await failure(more=arguments)

    assert (failed.code, failed.reason) == (FailureCode.INPUT_SCHEMA, "BODY")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://ok.example/", "SCHEME"),
        ("ok.example", "URL"),
        ("http://u:p@ok.example/", "CREDENTIALS"),
        ("http://0x7f.1/", "HOST"),
        ("http://127.0.0.1/", "ADDRESS"),
        ("http://localhost/", "LOCAL_NAME"),
        ("http://ok.example:22/", "PORT"),
    ],
)
async def test_egress_that_is_denied_says_by_which_rule(url: str, reason: str) -> None:
    failed = await failure(url=url)

    assert (failed.code, failed.reason) == (FailureCode.EGRESS_DENIED, reason)


@pytest.mark.parametrize(
    ("answer", "code", "reason"),
    [
        (b"", FailureCode.TOOL_ERROR, "PROTOCOL"),
        (http_answer(b"x" * (2**18 + 1)), FailureCode.OUTPUT_LIMIT, "TOO_LARGE"),
        (http_answer(b"\xff" * 200_000), FailureCode.OUTPUT_LIMIT, "TOO_LARGE"),
        (http_answer(b"\x01" * 50_000), FailureCode.OUTPUT_LIMIT, "TOO_LARGE"),
        (
            http_answer(b"x", headers=[("Content-Encoding", "br")]),
            FailureCode.TOOL_ERROR,
            "ENCODING",
        ),
    ],
)
async def test_failures_have_codes(answer: bytes, code: FailureCode, reason: str) -> None:
    failed = await failure(answer)

    assert (failed.code, failed.reason) == (code, reason)


async def test_an_unknown_name_fails_the_step() -> None:
    tool = HttpRequestTool(
        HttpClient(EgressRules(), resolver=FakeResolver(), network=LoopbackNetwork())
    )

    with pytest.raises(StepFailed) as failed:
        await tool.call({"url": URL}, make_context())

    assert (failed.value.code, failed.value.reason) == (FailureCode.TOOL_ERROR, "DNS")


async def test_its_own_time_ends_a_request() -> None:
    async def wait(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    failed = await failure(wait, timeout_seconds=0.05)

    assert (failed.code, failed.reason) == (FailureCode.TIMEOUT, "REQUEST_TIMEOUT")
    assert failed.message == "REQUEST_TIMEOUT: no complete answer within 0.05 s"


async def test_a_request_is_sent_once_however_it_fails() -> None:
    async with running(b"HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\nshort") as (tool, server):
        with pytest.raises(StepFailed):
            await tool.call({"url": URL}, make_context())

    assert server.connections == 1


async def test_a_binary_body_comes_back_whole() -> None:
    data = bytes(range(256))

    output = await called(typed(data, "application/zip"))

    assert base64.b64decode(str(output["body"])) == data


@pytest.mark.parametrize("example", SPEC.examples, ids=lambda example: example.title)
async def test_examples_are_true(example: ToolExample, tmp_path: Path) -> None:
    assert INPUT.violations(example.input) == []
    expected = cast("dict[str, Any]", example.output or {"headers": {}, "status": 200})
    answer = http_answer(
        json.dumps(expected.get("body")).encode(),
        status=expected["status"],
        headers=[*expected["headers"].items(), ("Date", "now")],
    )
    server_tls, client_tls = self_signed(tmp_path, "api.example.com")

    async with peer(answer, tls=server_tls) as server:
        network = LoopbackNetwork(server.port)
        tool = HttpRequestTool(
            HttpClient(
                EgressRules(), resolver=FakeResolver([PUBLIC]), network=network, tls=client_tls
            )
        )
        if example.failure_code is None:
            assert await tool.call(example.input, make_context()) == example.output
            return
        with pytest.raises(StepFailed) as failed:
            await tool.call(example.input, make_context())
    assert failed.value.code == example.failure_code


def test_it_declares_the_network() -> None:
    assert SPEC.effects == (Effect.NETWORK,)

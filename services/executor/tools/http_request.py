"""`http_request`: one HTTP request to a host that the rules of egress allow.

It is sent once and never again, follows no redirect, and any complete answer is a success, whatever
its status. Of the answer's headers only those go into the output that are named: most of the others
differ from call to call, and the output is hashed.
"""

from __future__ import annotations

import asyncio
from typing import cast

from libs.core.canonical import Json
from libs.core.errors import FailureCode, StepFailed
from libs.core.tool_spec import Effect, ToolExample, ToolSpec
from libs.net.http_client import HttpAnswer, HttpBounds, HttpClient, HttpRequest
from libs.net.refusals import EgressDenied, ExchangeFailed, ExchangeFault
from libs.net.urls import MAX_LENGTH, read_url
from services.executor.step_validation import MAX_OUTPUT_BYTES, SchemaMismatch, output_text
from services.executor.tools.http_content import read_content, request_body
from services.executor.tools.http_headers import (
    HEADER_VALUE,
    MAX_HEADERS,
    MAX_VALUE_LENGTH,
    TOKEN,
    answer_headers,
    request_headers,
)
from services.executor.tools.tool import ToolContext

DEFAULT_SECONDS = 60.0
MAX_SECONDS = 3600

# What is larger is read beside the event loop.
_BULKY_BYTES = 16 * 2**10
# A byte becomes six characters at most; the kept headers are 32 KiB at most, each twice as long.
_SURELY_FITTING_BYTES = 24 * 2**10

_INPUT: dict[str, Json] = {
    "type": "object",
    "properties": {
        "method": {
            "enum": ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
            "description": "GET when it is not given.",
        },
        "url": {
            "type": "string",
            "description": "https or http; no user or password in it.",
            "minLength": 1,
            "maxLength": MAX_LENGTH,
        },
        "headers": {
            "type": "object",
            "description": "Headers to send. They stand in the trace of the task.",
            "propertyNames": {"pattern": TOKEN},
            "additionalProperties": {
                "type": "string",
                "pattern": HEADER_VALUE,
                "maxLength": MAX_VALUE_LENGTH,
            },
            "maxProperties": MAX_HEADERS,
        },
        "json": {"description": "A body to send as JSON; not together with text."},
        "text": {"type": "string", "description": "A body to send as UTF-8 text."},
        "response_headers": {
            "type": "array",
            "description": "Headers of the answer to put into the output, beside content-type and "
            "location. One that differs between calls makes the hashes differ.",
            "items": {"type": "string", "pattern": TOKEN},
            "maxItems": 20,
        },
        "timeout_seconds": {
            "type": "number",
            "description": "For the whole request; the step's own limit holds in any case.",
            "exclusiveMinimum": 0,
            "maximum": MAX_SECONDS,
        },
    },
    "required": ["url"],
    "not": {"required": ["json", "text"]},
    "additionalProperties": False,
}
_OUTPUT: dict[str, Json] = {
    "type": "object",
    "properties": {
        "status": {"type": "integer", "minimum": 100, "maximum": 999},
        "url": {"type": "string"},
        "headers": {
            "type": "object",
            "description": "By lower-case name; values of a repeated header are joined with ', ', "
            "those of set-cookie with a line feed.",
            "additionalProperties": {"type": "string"},
        },
        "body": {"description": "As body_type says."},
        "body_type": {
            "enum": ["json", "text", "base64", "none"],
            "description": "How body was read: parsed as JSON, as text, as bytes in base64; none: "
            "there is no body, and body is null.",
        },
        "json_error": {
            "type": "string",
            "description": "Why a body that calls itself JSON was read as text.",
        },
    },
    "required": ["status", "url", "headers", "body", "body_type"],
    "additionalProperties": False,
}

SPEC = ToolSpec(
    name="http_request",
    version="1.0.0",
    description=(
        "Sends one HTTP request to a public host and returns status, body and chosen headers. Any "
        "complete answer succeeds, 4xx and 5xx too; redirects are not followed, nothing is retried."
    ),
    input_schema=_INPUT,
    output_schema=_OUTPUT,
    effects=(Effect.NETWORK,),
    examples=(
        ToolExample(
            title="Read JSON",
            input={
                "url": "https://api.example.com/orders/7",
                "headers": {"Accept": "application/json"},
            },
            output={
                "status": 200,
                "url": "https://api.example.com/orders/7",
                "headers": {"content-type": "application/json"},
                "body": {"id": 7, "total": 12.5},
                "body_type": "json",
            },
        ),
        ToolExample(
            title="Send JSON, and keep a header of the answer",
            input={
                "method": "POST",
                "url": "https://api.example.com/orders",
                "json": {"item": "tea", "count": 2},
                "response_headers": ["ETag"],
                "timeout_seconds": 5,
            },
            output={
                "status": 201,
                "url": "https://api.example.com/orders",
                "headers": {
                    "content-type": "application/json",
                    "etag": '"v1"',
                    "location": "/orders/8",
                },
                "body": {"id": 8},
                "body_type": "json",
            },
        ),
        ToolExample(
            title="An internal address is refused before anything is sent",
            input={"url": "http://169.254.169.254/latest/meta-data/"},
            failure_code=FailureCode.EGRESS_DENIED,
        ),
    ),
)

_CODES = {
    ExchangeFault.TOO_LARGE: FailureCode.OUTPUT_LIMIT,
    ExchangeFault.CONNECT_TIMEOUT: FailureCode.TIMEOUT,
    ExchangeFault.REQUEST_TIMEOUT: FailureCode.TIMEOUT,
}


class HttpRequestTool:
    """The tool `http_request`."""

    spec = SPEC

    def __init__(self, client: HttpClient) -> None:
        """Requests go through `client`, which holds the rules."""
        self._client = client

    async def call(self, arguments: dict[str, Json], context: ToolContext) -> Json:
        """Send the request and read the answer.

        Failures: EGRESS_DENIED, the reason being the rule; INPUT_SCHEMA for headers and bodies that
        cannot be sent; OUTPUT_LIMIT; TIMEOUT; TOOL_ERROR with reason DNS, CONNECT, TLS, PROTOCOL,
        ENCODING.
        """
        try:
            request = _request(arguments)
            bounds = HttpBounds(seconds=_seconds(arguments, context))
            answer = await self._client.send(request, bounds=bounds, asker=context.tenant_id)
        except EgressDenied as denied:
            raise StepFailed(
                FailureCode.EGRESS_DENIED, denied.message, reason=denied.rule
            ) from denied
        except ExchangeFailed as failed:
            code = _CODES.get(failed.fault, FailureCode.TOOL_ERROR)
            raise StepFailed(code, _told(failed), reason=failed.fault) from failed
        named = cast("list[str]", arguments.get("response_headers", []))
        if len(answer.body) <= _BULKY_BYTES:
            return _output(request, answer, named)
        return await asyncio.to_thread(_output, request, answer, named)


def _request(arguments: dict[str, Json]) -> HttpRequest:
    method = cast("str", arguments.get("method", "GET"))
    url = read_url(cast("str", arguments["url"]))
    body = request_body(arguments, method=method)
    given = cast("dict[str, str]", arguments.get("headers", {}))
    return HttpRequest(
        method=method,
        url=url,
        headers=request_headers(given, media_type=body.media_type),
        body=body.content,
    )


def _seconds(arguments: dict[str, Json], context: ToolContext) -> float:
    """The request's own time. Where the step's ends earlier, whoever runs the step ends it."""
    asked = arguments.get("timeout_seconds")
    if asked is not None:
        return float(cast("float", asked))
    return DEFAULT_SECONDS if context.seconds is None else context.seconds + 1


def _told(failed: ExchangeFailed) -> str:
    if failed.fault is ExchangeFault.TOO_LARGE:
        return f"{failed.message}; ask for less, a page or a range for example"
    if failed.fault in {ExchangeFault.CONNECT_TIMEOUT, ExchangeFault.REQUEST_TIMEOUT}:
        return f"{failed.fault}: {failed.message}"
    return failed.message


def _output(request: HttpRequest, answer: HttpAnswer, named: list[str]) -> dict[str, Json]:
    content = read_content(answer.body, media_types=answer.values("content-type"))
    output: dict[str, Json] = {
        "status": answer.status,
        "url": str(request.url),
        "headers": answer_headers(answer, named=named),
        "body": content.body,
        "body_type": content.kind,
    }
    if content.json_error is not None:
        output["json_error"] = content.json_error
    if len(answer.body) > _SURELY_FITTING_BYTES:
        _check_size(output, answer)
    return output


def _check_size(output: dict[str, Json], answer: HttpAnswer) -> None:
    """Raise StepFailed(OUTPUT_LIMIT), TOO_LARGE, for a body that grows beyond what a step may give
    out when it is written as base64, or as text with escapes. What else is wrong with it is found
    where every output is checked.
    """
    try:
        output_text(output)
    except SchemaMismatch:
        return
    except StepFailed as failed:
        raise StepFailed(
            failed.code,
            f"the body has {len(answer.body)} bytes and as {output['body_type']} does not fit into "
            f"the {MAX_OUTPUT_BYTES} of an output; ask for less, a page or a range for example",
            reason=ExchangeFault.TOO_LARGE,
        ) from failed

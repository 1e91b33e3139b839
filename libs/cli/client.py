"""A small REST client: JSON in and out, problems and unreachable servers as errors.

Built on http.client, because the command line should start fast. A connection per request: a kept
one may be closed by the server just then, and sending a POST again would be a hidden retry.
"""

from __future__ import annotations

import http.client
import json
import re
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, urlencode, urlsplit

JsonObject = dict[str, Any]

_SILENCE_SECONDS = 60.0
_PRINTABLE = re.compile(r"[\x21-\x7e]+")
# UnicodeError: a host name or a path that cannot be written on the wire.
_NO_ANSWER = (OSError, http.client.HTTPException, UnicodeError)


class Unreachable(Exception):  # noqa: N818 - what happened, in one word
    """No server answers, or what answers is not Pawl; the message says where and what to do."""


class Refused(Exception):  # noqa: N818 - what happened, in one word
    """The server answered with an error. `lines` is what to show, the first line first."""

    def __init__(self, status: int, problem: JsonObject) -> None:
        self.status = status
        self.code = str(problem.get("code", ""))
        self.problem = problem
        self.lines = _lines(status, problem)
        super().__init__(self.lines[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerEvent:
    """One event of a stream: its id, its name and its data, read as JSON."""

    id: str
    name: str
    data: JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where Pawl is and the key to use there."""

    url: str
    api_key: str = field(repr=False)


class Client:
    """Talks to one server. Every call raises Refused for an error and Unreachable for no answer."""

    def __init__(self, server: Server, *, timeout_seconds: float = 35.0) -> None:
        parts, host, port = _address(server.url)
        if not _PRINTABLE.fullmatch(server.api_key):
            raise Unreachable("the API key is none: it has other characters; check PAWL_API_KEY")
        self._server = server
        self._base = parts.path.rstrip("/")
        self._https = parts.scheme == "https"
        self._host = host
        self._port = port
        self._timeout = timeout_seconds

    def get(self, path: str, query: Mapping[str, object] | None = None) -> JsonObject:
        """GET and return the JSON object."""
        return self._json("GET", path + _query(query))

    def text(self, path: str, query: Mapping[str, object] | None = None) -> str:
        """GET and return the text of an answer that is not JSON."""
        return self._content("GET", path + _query(query)).decode(errors="replace")

    def post(
        self, path: str, body: object, *, headers: Mapping[str, str] | None = None
    ) -> JsonObject:
        """POST a JSON body and return the JSON object."""
        return self._json("POST", path, body=json.dumps(body).encode(), headers=headers)

    def patch(self, path: str, body: object) -> JsonObject:
        """PATCH a JSON body and return the JSON object."""
        return self._json("PATCH", path, body=json.dumps(body).encode())

    def delete(self, path: str) -> JsonObject:
        """DELETE and return the JSON object; empty when the answer has no body."""
        return self._json("DELETE", path)

    def pages(self, path: str, query: Mapping[str, object] | None = None) -> Iterator[JsonObject]:
        """Every item of a list that comes in pages of {"data": […], "next_cursor": …}."""
        cursor: object = None
        while True:
            page = self.get(path, {**(query or {}), **({"cursor": cursor} if cursor else {})})
            yield from page.get("data", [])
            cursor = page.get("next_cursor")
            if not cursor:
                return

    def events(
        self, path: str, *, after: str | None = None, idle_seconds: float | None = None
    ) -> Iterator[ServerEvent]:
        """Follow a stream of Server-Sent Events, from after the event `after`, until it ends.

        With `idle_seconds` it also ends when nothing came for so long; without, silence of a minute
        (the server pings more often) is a broken stream.
        """
        connection = self._connect(timeout=idle_seconds or _SILENCE_SECONDS)
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": after} if after else {})}
        try:
            answer = self._send(connection, "GET", path, headers=headers)
            if answer.status != http.client.OK:
                raise Refused(answer.status, _problem(answer.read()))
            yield from read_events(answer)
        except _NO_ANSWER as error:
            if isinstance(error, TimeoutError) and idle_seconds is not None:
                return
            raise Unreachable(f"the stream from {self._server.url} broke: {error}") from error
        finally:
            connection.close()

    def _json(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> JsonObject:
        content = self._content(method, path, body=body, headers=headers)
        return self._object(content) if content else {}

    def _content(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        connection = self._connect(timeout=self._timeout)
        try:
            answer = self._send(connection, method, path, body=body, headers=headers)
            content = answer.read()
        except _NO_ANSWER as error:
            raise Unreachable(self._unreachable(error)) from error
        finally:
            connection.close()
        if answer.status >= http.client.BAD_REQUEST:
            raise Refused(answer.status, _problem(content))
        return content

    def _object(self, content: bytes) -> JsonObject:
        try:
            value = json.loads(content)
        except ValueError as error:
            raise Unreachable(f"{self._server.url} answers, but not with JSON") from error
        if not isinstance(value, dict):
            raise Unreachable(f"{self._server.url} answers, but not as Pawl does")
        return value

    def _send(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> http.client.HTTPResponse:
        sent = {"Authorization": f"Bearer {self._server.api_key}", "Accept": "application/json"}
        if body is not None:
            sent["Content-Type"] = "application/json"
        connection.request(
            method, self._base + path, body=body, headers={**sent, **(headers or {})}
        )
        return connection.getresponse()

    def _connect(self, *, timeout: float) -> http.client.HTTPConnection:
        if self._https:
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(
                self._host, self._port, timeout=timeout, context=context
            )
        return http.client.HTTPConnection(self._host, self._port, timeout=timeout)

    def _unreachable(self, error: Exception) -> str:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return f"{self._server.url} cannot be reached: {reason or type(error).__name__}"


def read_events(lines: Iterator[bytes] | http.client.HTTPResponse) -> Iterator[ServerEvent]:
    """The events of a text/event-stream, with data read as JSON; comments (pings) are skipped."""
    last_id, name, data = "", "", list[str]()
    for raw in lines:
        line = raw.decode().rstrip("\r\n")
        if line:
            key, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if key == "data":
                data.append(value)
            elif key == "event":
                name = value
            elif key == "id":
                last_id = value
            continue
        if data:
            yield ServerEvent(id=last_id, name=name, data=json.loads("\n".join(data)))
        name, data = "", []


def _address(url: str) -> tuple[SplitResult, str, int | None]:
    """The parts of a server's address, its host and its port. Raises Unreachable for no address."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise Unreachable(f"{url!a} is not an http:// or https:// address: {error}") from error
    if "@" in parts.netloc:
        raise Unreachable("the address has a user name, which Pawl does not know; set PAWL_API_KEY")
    if parts.scheme not in {"http", "https"} or not host or not host.isprintable() or " " in host:
        raise Unreachable(f"{url} is not an http:// or https:// address")
    return parts, host, port


def _query(query: Mapping[str, object] | None) -> str:
    given = {name: value for name, value in (query or {}).items() if value is not None}
    return f"?{urlencode(given)}" if given else ""


def _problem(content: bytes) -> JsonObject:
    try:
        value = json.loads(content)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _lines(status: int, problem: JsonObject) -> list[str]:
    detail = problem.get("detail") or problem.get("title") or http.client.responses.get(status, "")
    code = f" ({problem['code']})" if problem.get("code") else ""
    lines = [f"{status}{code}: {detail}"]
    errors = problem.get("errors")
    said = [
        f"{error.get('field') or 'body'}: {error.get('detail')}"
        for error in (errors if isinstance(errors, list) else [])
        if isinstance(error, dict)
    ]
    lines += [line for line in said if line != detail]
    if status == http.client.UNAUTHORIZED:
        lines.append("the API key is not valid there: set PAWL_API_KEY, or see pawl keys create")
    if problem.get("request_id"):
        lines.append(f"request {problem['request_id']}")
    return lines

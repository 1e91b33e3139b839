"""The command line's client: `pawl.Client` for tasks, and any other route as plain JSON.

It asks once, so that whoever waits at a terminal is told at once what goes wrong, and keeps no
connection open; only a stream of events is taken up again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from libs.client.calls import SILENCE_SECONDS
from libs.client.client import Client as TaskClient
from libs.client.errors import Refused, Unreachable
from libs.client.retrying import NEVER
from libs.client.wire import Again

__all__ = ["Client", "JsonObject", "Refused", "Server", "Unreachable"]

JsonObject = dict[str, Any]
Notice = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where Pawl is and the key to use there."""

    url: str
    api_key: str = field(repr=False)


class Client:
    """Talks to `server`; `api` is its typed client. Every call raises Refused for an error and
    Unreachable for no answer.
    """

    def __init__(self, server: Server, *, timeout_seconds: float = SILENCE_SECONDS) -> None:
        self._notice: Notice | None = None
        self.server = server
        self.api = TaskClient(
            server.url,
            server.api_key,
            timeout_seconds=timeout_seconds,
            retry=NEVER,
            on_retry=self._told,
            keeps_connections=False,
        )

    def get(self, path: str, query: Mapping[str, object] | None = None) -> JsonObject:
        """GET and return the JSON object."""
        return self.api.request("GET", path, query=query)

    def text(self, path: str, query: Mapping[str, object] | None = None) -> str:
        """GET and return the text of an answer that is not JSON."""
        return self.api.request_text(path, query=query)

    def post(
        self, path: str, body: object, *, headers: Mapping[str, str] | None = None
    ) -> JsonObject:
        """POST a JSON body and return the JSON object."""
        return self.api.request("POST", path, body=body, headers=headers)

    def patch(self, path: str, body: object) -> JsonObject:
        """PATCH a JSON body and return the JSON object."""
        return self.api.request("PATCH", path, body=body)

    def delete(self, path: str) -> JsonObject:
        """DELETE and return the JSON object; empty when the answer has no body."""
        return self.api.request("DELETE", path)

    def pages(self, path: str, query: Mapping[str, object] | None = None) -> Iterator[JsonObject]:
        """Every item of a list that comes in pages of {"data": […], "next_cursor": …}."""
        return self.api.request_pages(path, query=query)

    @contextmanager
    def noticing(self, notice: Notice) -> Iterator[None]:
        """Meanwhile tell `notice` when a stream broke and is taken up again."""
        before, self._notice = self._notice, notice
        try:
            yield
        finally:
            self._notice = before

    def _told(self, again: Again) -> None:
        if self._notice is not None:
            self._notice(
                f"the stream from {self.server.url} broke: {again.reason}; following again"
            )

"""What both faces share about moving bytes with httpx2: settings, and what its errors mean."""

from __future__ import annotations

import logging
import os
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from libs.client.address import Address
from libs.client.wire import Again, Answer, Lost, Request

if TYPE_CHECKING:
    import httpx2

OnRetry: TypeAlias = Callable[[Again], None]

CONNECT_SECONDS = 10.0
IDLE_SECONDS = 5.0
"""A connection that nobody used for so long is not used again: the server may be closing it."""
MOST_CONNECTIONS = 100
USER_AGENT = "pawl-python"
_DEEPEST_CAUSE = 20

_log = logging.getLogger("pawl")


@dataclass(frozen=True, slots=True, kw_only=True)
class Transport:
    """How to reach the server. `ssl_context` None: the system's authorities; `proxy` None: none,
    whatever the environment says.
    """

    address: Address
    ssl_context: ssl.SSLContext | None = None
    proxy: str | None = None
    keeps_connections: bool = True

    def url_of(self, request: Request) -> str:
        """The whole address of a request."""
        return self.address.base + request.path

    @property
    def tls(self) -> ssl.SSLContext:
        """The context of encrypted connections; one that trusts nobody where there are none."""
        if self.ssl_context is not None:
            return self.ssl_context
        if self.address.is_encrypted:
            return ssl.create_default_context()
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    @property
    def limits(self) -> httpx2.Limits:
        """How many connections there may be, and how long they are kept."""
        import httpx2

        return httpx2.Limits(
            max_connections=MOST_CONNECTIONS,
            max_keepalive_connections=MOST_CONNECTIONS if self.keeps_connections else 0,
            keepalive_expiry=IDLE_SECONDS,
        )

    def timeout_of(self, request: Request) -> httpx2.Timeout:
        """How long each part of a request may take."""
        import httpx2

        return httpx2.Timeout(request.silence_seconds, connect=CONNECT_SECONDS)


def log_again(again: Again) -> None:
    """Write a warning to the logger `pawl`."""
    words = "%s %s: %s; attempt %d, once more in %.2f s"
    _log.warning(words, again.method, again.path, again.reason, again.attempt, again.wait_seconds)


def answer_of(status: int, headers: Mapping[str, str], body: bytes = b"") -> Answer:
    """An answer with its headers' names in lower case."""
    lowered = {name.lower(): value for name, value in headers.items()}
    return Answer(status=status, headers=lowered, body=body)


def lost(error: Exception, *, is_silence: bool, seconds: float) -> Lost:
    """What an error of the transport means."""
    reason = f"no answer for {seconds:g} s" if is_silence else reason_of(error)
    return Lost(reason, is_silence=is_silence)


def reason_of(error: BaseException) -> str:
    """The system's word for what went wrong, where one of the causes has it."""
    cause: BaseException | None = error
    for _ in range(_DEEPEST_CAUSE):
        if isinstance(cause, OSError) and cause.strerror:
            return _system_word(cause)
        if isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        elif cause is not None:
            cause = cause.__cause__ or cause.__context__
    return str(error) or type(error).__name__


def _system_word(error: OSError) -> str:
    # asyncio puts words of its own there; these two have numbers of their own.
    has_own_numbers = isinstance(error, (socket.gaierror, ssl.SSLError))
    return str(error.strerror) if has_own_numbers or not error.errno else os.strerror(error.errno)

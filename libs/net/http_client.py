"""One HTTP/1.1 exchange with a host that the rules allow, within bounds.

Every request has a connection of its own, so that nothing is shared between tenants and nothing has
to be tried again. No redirect is followed, no proxy used, no cookie kept; the environment is read
for certificates only (SSL_CERT_FILE, SSL_CERT_DIR).
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Hashable
from dataclasses import dataclass, field

import httpcore2

from libs.net.content_coding import decode, too_large
from libs.net.egress_rules import EgressRules
from libs.net.guard import GuardedNetwork
from libs.net.metered import Meter, MeteredNetwork
from libs.net.refusals import ExchangeFailed, ExchangeFault
from libs.net.resolver import Resolver, SystemResolver
from libs.net.urls import Url

MAX_HEADERS = 100
MAX_HEAD_BYTES = 32 * 2**10
SWITCHING_PROTOCOLS = 101

# What may come over the wire, with all that is not the answer's own content: provisional answers
# before its headers, the framing of chunks in its body.
_WIRE_HEAD_BYTES = 128 * 2**10
_WIRE_BODY_FACTOR = 2
_WIRE_BODY_EXTRA_BYTES = 64 * 2**10

_SAID_CHARACTERS = 200

# At debug it would say headers, and with them secrets.
logging.getLogger("httpcore2").setLevel(logging.WARNING)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """What is sent. Names and values of `headers` are tokens and field values already checked;
    Host, Content-Length, Accept-Encoding and Connection are not among them.
    """

    method: str
    url: Url
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpBounds:
    """Seconds for all of a request and for its connection, and the bytes of an answer's body, as
    sent and as decoded.
    """

    seconds: float
    connect_seconds: float = 10.0
    body_bytes: int = 256 * 2**10


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAnswer:
    """A complete answer. Header names are lower case, in the order in which they came; `body` has
    no coding any more.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes = field(repr=False)

    def values(self, name: str) -> list[str]:
        """The values of the header `name` (lower case), in order."""
        return [value for known, value in self.headers if known == name]


class HttpClient:
    """Sends requests. Safe to share; holds no connection between them."""

    def __init__(
        self,
        rules: EgressRules,
        *,
        resolver: Resolver | None = None,
        network: httpcore2.AsyncNetworkBackend | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`network` opens connections to judged addresses; `tls` verifies servers, the system's
        certificates by default.
        """
        self._rules = rules
        self._resolver = resolver or SystemResolver()
        self._network = network or httpcore2.AnyIOBackend()
        self._tls = tls

    async def send(
        self, request: HttpRequest, *, bounds: HttpBounds, asker: Hashable = None
    ) -> HttpAnswer:
        """Send the request once and read the whole answer, whatever its status. `asker` is who it
        is for: names that are looked up for one are not to hold up those of others.

        Raises EgressDenied before anything is sent, ExchangeFailed for what then goes wrong. A
        cancellation closes the connection.
        """
        meter = Meter(_WIRE_HEAD_BYTES)
        network = GuardedNetwork(
            self._rules,
            resolver=self._resolver,
            network=MeteredNetwork(self._network, meter),
            asker=asker,
        )
        try:
            async with asyncio.timeout(bounds.seconds):
                return await self._exchange(request, network, meter, bounds)
        except TimeoutError as error:
            raise ExchangeFailed(
                ExchangeFault.REQUEST_TIMEOUT, f"no complete answer within {bounds.seconds:g} s"
            ) from error
        except (httpcore2.NetworkError, httpcore2.TimeoutException, ssl.SSLError) as error:
            raise _network_failed(error, request.url) from error
        except httpcore2.RemoteProtocolError as error:
            # What follows a colon would be what the server sent.
            said = str(error).partition(":")[0][:_SAID_CHARACTERS]
            raise ExchangeFailed(
                ExchangeFault.PROTOCOL, f"the answer of {request.url.host} is broken: {said}"
            ) from error
        finally:
            await network.aclose()

    async def _exchange(
        self, request: HttpRequest, network: GuardedNetwork, meter: Meter, bounds: HttpBounds
    ) -> HttpAnswer:
        if self._tls is None and request.url.scheme == "https":
            self._tls = await asyncio.to_thread(httpcore2.default_ssl_context)
        async with (
            httpcore2.AsyncConnectionPool(
                ssl_context=self._tls,
                max_connections=1,
                max_keepalive_connections=0,
                http2=False,
                retries=0,
                network_backend=network,
            ) as pool,
            pool.stream(
                request.method.encode("ascii"),
                _wire_url(request.url),
                headers=_wire_headers(request),
                content=request.body,
                extensions={"timeout": {"connect": bounds.connect_seconds}},
            ) as response,
        ):
            meter.reset(_WIRE_BODY_FACTOR * bounds.body_bytes + _WIRE_BODY_EXTRA_BYTES)
            return await _read_answer(response, bounds)


async def _read_answer(response: httpcore2.Response, bounds: HttpBounds) -> HttpAnswer:
    if response.status == SWITCHING_PROTOCOLS:
        raise ExchangeFailed(
            ExchangeFault.PROTOCOL, "the server switches protocols, which nobody asked for"
        )
    size = sum(len(name) + len(value) for name, value in response.headers)
    if len(response.headers) > MAX_HEADERS or size > MAX_HEAD_BYTES:
        raise ExchangeFailed(
            ExchangeFault.TOO_LARGE,
            f"the answer has {len(response.headers)} headers of {size} bytes; {MAX_HEADERS} of "
            f"{MAX_HEAD_BYTES} bytes together are allowed",
        )
    headers = tuple(
        (name.decode("ascii").lower(), value.decode("latin-1")) for name, value in response.headers
    )
    parts: list[bytes] = []
    room = bounds.body_bytes
    async for part in response.aiter_stream():
        room -= len(part)
        if room < 0:
            raise too_large(bounds.body_bytes)
        parts.append(part)
    answer = HttpAnswer(status=response.status, headers=headers, body=b"".join(parts))
    coding = ", ".join(answer.values("content-encoding"))
    body = decode(answer.body, coding, max_bytes=bounds.body_bytes)
    return HttpAnswer(status=answer.status, headers=headers, body=body)


def _wire_url(url: Url) -> httpcore2.URL:
    # In parts, so that no second parser reads the text.
    return httpcore2.URL(
        scheme=url.scheme.encode("ascii"),
        host=url.host.text.encode("ascii"),
        port=url.port,
        target=url.target.encode("ascii"),
    )


def _wire_headers(request: HttpRequest) -> list[tuple[bytes, bytes]]:
    given = [(name.encode("ascii"), value.encode("ascii")) for name, value in request.headers]
    own = [
        (b"Host", request.url.authority.encode("ascii")),
        (b"Accept-Encoding", b"identity"),
        (b"Connection", b"close"),
    ]
    if request.body is not None:
        own.append((b"Content-Length", str(len(request.body)).encode("ascii")))
    return [*own, *given]


def _network_failed(error: Exception, url: Url) -> ExchangeFailed:
    host = url.host
    refused = _tls_error(error)
    if isinstance(refused, ssl.SSLCertVerificationError):
        said = f"the certificate of {host} is not trusted: {refused.verify_message}"
        return ExchangeFailed(ExchangeFault.TLS, said)
    if refused is not None:
        return ExchangeFailed(ExchangeFault.TLS, f"no TLS with {host}: {refused.reason}")
    if isinstance(error, httpcore2.ConnectTimeout):
        return ExchangeFailed(ExchangeFault.CONNECT_TIMEOUT, f"TLS with {host} takes too long")
    if isinstance(error, httpcore2.ConnectError):
        return ExchangeFailed(ExchangeFault.TLS, f"{host} ended the connection while TLS began")
    return ExchangeFailed(ExchangeFault.PROTOCOL, f"{host} ended the connection before its answer")


def _tls_error(error: BaseException | None) -> ssl.SSLError | None:
    """What OpenSSL said, where it lies behind the library's error."""
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error

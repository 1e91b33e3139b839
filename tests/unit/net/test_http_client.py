"""One exchange: what goes over the wire, and how it ends when it goes wrong."""

from __future__ import annotations

import asyncio
import gzip
import logging
import os
import ssl
from pathlib import Path

import pytest

from libs.net.egress_rules import EgressRules
from libs.net.http_client import (
    MAX_HEADERS,
    HttpAnswer,
    HttpBounds,
    HttpClient,
    HttpRequest,
)
from libs.net.refusals import EgressDenied, EgressRule, ExchangeFailed, ExchangeFault
from libs.net.urls import read_url
from tests.net_world import (
    PUBLIC,
    PUBLIC_V6,
    FakeResolver,
    Handler,
    HangingResolver,
    LoopbackNetwork,
    http_answer,
    peer,
    self_signed,
)

BOUNDS = HttpBounds(seconds=10, body_bytes=1000)


def client(port: int | None, *, tls: ssl.SSLContext | None = None) -> HttpClient:
    """A client in whose world every name is public and leads to the port."""
    return HttpClient(
        EgressRules(), resolver=FakeResolver([PUBLIC]), network=LoopbackNetwork(port), tls=tls
    )


def get(url: str = "http://ok.example/a?b", *headers: tuple[str, str]) -> HttpRequest:
    return HttpRequest(method="GET", url=read_url(url), headers=headers)


async def answered(answer: bytes, *, bounds: HttpBounds = BOUNDS) -> HttpAnswer:
    async with peer(answer) as server:
        return await client(server.port).send(get(), bounds=bounds)


async def fault(answer: bytes, *, bounds: HttpBounds = BOUNDS) -> ExchangeFault:
    with pytest.raises(ExchangeFailed) as failed:
        await answered(answer, bounds=bounds)
    return failed.value.fault


async def test_request_is_sent_as_it_was_made() -> None:
    async with peer(http_answer(b"hello", headers=[("X-A", "1"), ("X-A", "2")])) as server:
        answer = await client(server.port).send(
            HttpRequest(
                method="POST",
                url=read_url("http://OK.example:80/a%20b?c=d#e"),
                headers=(("X-B", "3"),),
                body=b"body",
            ),
            bounds=BOUNDS,
        )

    assert server.requests[0] == (
        b"POST /a%20b?c=d HTTP/1.1\r\nHost: ok.example\r\nAccept-Encoding: identity\r\n"
        b"Connection: close\r\nContent-Length: 4\r\nX-B: 3\r\n\r\nbody"
    )
    assert (answer.status, answer.body) == (200, b"hello")
    assert answer.headers == (("x-a", "1"), ("x-a", "2"), ("content-length", "5"))
    assert answer.values("x-a") == ["1", "2"]


@pytest.mark.parametrize(
    ("url", "host"),
    [
        (f"http://{PUBLIC}/", PUBLIC),
        (f"http://[{PUBLIC_V6}]/", f"[{PUBLIC_V6}]"),
        ("http://ok.example:443/", "ok.example:443"),
    ],
)
async def test_the_host_header_is_the_one_that_was_asked_for(url: str, host: str) -> None:
    async with peer(http_answer()) as server:
        await client(server.port).send(get(url), bounds=BOUNDS)

    assert f"\r\nHost: {host}\r\n".encode() in server.requests[0]


async def test_tls_checks_the_name_and_not_the_address(tmp_path: Path) -> None:
    server_tls, client_tls = self_signed(tmp_path, "ok.example")

    async with peer(http_answer(b"safe"), tls=server_tls) as server:
        known = client(server.port, tls=client_tls)
        answer = await known.send(get("https://ok.example/"), bounds=BOUNDS)
        with pytest.raises(ExchangeFailed) as failed:
            await known.send(get("https://other.example/"), bounds=BOUNDS)

    assert answer.body == b"safe"
    assert failed.value.fault is ExchangeFault.TLS
    assert "not valid for 'other.example'" in failed.value.message


async def test_tls_trusts_the_systems_authorities_only(tmp_path: Path) -> None:
    server_tls, _ = self_signed(tmp_path, "ok.example")

    async with peer(http_answer(), tls=server_tls) as server:
        with pytest.raises(ExchangeFailed) as failed:
            await client(server.port).send(get("https://ok.example/"), bounds=BOUNDS)

    assert failed.value.fault is ExchangeFault.TLS
    assert server.requests == []


async def test_tls_that_breaks_off_fails_as_such(tmp_path: Path) -> None:
    server_tls, client_tls = self_signed(tmp_path, "ok.example")

    async def garble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        os.write(writer.get_extra_info("socket").fileno(), b"\x17\x03\x03\x00\x20" + b"x" * 32)

    async with peer(garble, tls=server_tls) as server:
        known = client(server.port, tls=client_tls)
        with pytest.raises(ExchangeFailed) as failed:
            await known.send(get("https://ok.example/"), bounds=BOUNDS)

    assert failed.value.fault is ExchangeFault.TLS


async def test_a_server_without_tls_fails_as_such() -> None:
    async def plain(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(http_answer())
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ExchangeFailed) as failed:
            await client(port).send(get("https://ok.example/"), bounds=BOUNDS)

    assert failed.value.fault is ExchangeFault.TLS


@pytest.mark.parametrize("status", [204, 301, 302, 304, 400, 404, 429, 500, 503])
async def test_every_status_is_an_answer(status: int) -> None:
    answer = await answered(http_answer(status=status, headers=[("Location", "http://127.0.0.1/")]))

    assert answer.status == status


async def test_redirects_are_not_followed() -> None:
    async with peer(http_answer(status=302)) as canary:
        location = f"http://127.0.0.1:{canary.port}/"
        answer = await answered(http_answer(status=302, headers=[("Location", location)]))

    assert answer.values("location") == [location]
    assert canary.connections == 0


async def test_no_proxy_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    async with peer(http_answer()) as canary:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{canary.port}")
        answer = await answered(http_answer(b"direct"))

    assert answer.body == b"direct"
    assert canary.connections == 0


async def test_a_refused_url_sends_nothing() -> None:
    network = LoopbackNetwork()
    known = HttpClient(EgressRules(), resolver=FakeResolver(["127.0.0.1"]), network=network)

    for url, rule in (
        ("http://127.0.0.1/", EgressRule.ADDRESS),
        ("http://ok.example:5432/", EgressRule.PORT),
        ("http://inward.example/", EgressRule.ADDRESS),
    ):
        with pytest.raises(EgressDenied) as denied:
            await known.send(get(url), bounds=BOUNDS)
        assert denied.value.rule is rule
    assert network.dialed == []


async def test_chunks_and_answers_until_the_end_are_read() -> None:
    chunked = (
        b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"
    )

    assert (await answered(chunked)).body == b"abcde"
    assert (await answered(b"HTTP/1.0 200 X\r\n\r\nto the end")).body == b"to the end"
    assert (await answered(b"HTTP/1.1 100 C\r\n\r\n" + http_answer(b"x"))).body == b"x"


async def test_a_head_answer_has_no_body() -> None:
    async with peer(b"HTTP/1.1 200 X\r\nContent-Length: 99999999\r\n\r\n") as server:
        request = HttpRequest(method="HEAD", url=read_url("http://ok.example/"))
        answer = await client(server.port).send(request, bounds=BOUNDS)

    assert answer.body == b""


async def test_a_compressed_answer_is_decoded() -> None:
    packed = http_answer(gzip.compress(b"plain"), headers=[("Content-Encoding", "gzip")])

    assert (await answered(packed)).body == b"plain"


@pytest.mark.parametrize(
    "answer",
    [
        http_answer(b"x" * 1001),
        b"HTTP/1.1 200 X\r\n\r\n" + b"x" * 200_000,
        b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n" + b"200\r\n" + b"x" * 512 + b"\r\n"
        b"200\r\n" + b"x" * 512 + b"\r\n0\r\n\r\n",
        http_answer(gzip.compress(b"\0" * 500_000)[:900], headers=[("Content-Encoding", "gzip")]),
        http_answer(gzip.compress(b"\0" * 100_000), headers=[("Content-Encoding", "gzip")]),
        http_answer(headers=[(f"X-{number}", "1") for number in range(MAX_HEADERS)]),
        http_answer(headers=[("X", "y" * 40_000)]),
    ],
)  # fmt: skip
async def test_an_answer_that_is_too_large_is_refused(answer: bytes) -> None:
    assert await fault(answer) is ExchangeFault.TOO_LARGE


@pytest.mark.parametrize(
    ("head", "part"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (
            b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"1;" + b"a" * 500 + b"\r\nx\r\n",
        ),
    ],
)
async def test_an_endless_answer_that_does_not_grow_is_refused(head: bytes, part: bytes) -> None:
    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while True:
            writer.write(part * 100)
            await writer.drain()

    async with peer(flood) as server:
        with pytest.raises(ExchangeFailed) as failed:
            await client(server.port).send(get(), bounds=BOUNDS)

    assert failed.value.fault is ExchangeFault.TOO_LARGE
    assert "around its body" in failed.value.message


async def test_chunks_of_a_few_bytes_are_read() -> None:
    head = b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n"

    answer = await answered(head + b"1\r\nx\r\n" * 1000 + b"0\r\n\r\n")

    assert answer.body == b"x" * 1000


async def test_the_bound_itself_is_allowed() -> None:
    assert len((await answered(http_answer(b"x" * 1000))).body) == 1000


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"hello\r\n\r\n",
        b"HTTP/1.1 200 X\r\nContent-Length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 X\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"HTTP/1.1 200 X\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 X\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 X\r\nsecret header\r\n\r\n",
        b"HTTP/1.1 200 X\r\nA: b\x00c\r\n\r\n",
        b"HTTP/1.1 99999 X\r\n\r\n",
        b"HTTP/1.1 101 X\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 X\r\n" + b"A" * 300_000,
        b"\x16\x03\x01\x02\x00",
    ],
)
async def test_a_broken_answer_fails_without_repeating_it(answer: bytes) -> None:
    with pytest.raises(ExchangeFailed) as failed:
        await answered(answer)

    assert failed.value.fault is ExchangeFault.PROTOCOL
    assert "secret" not in failed.value.message


async def test_a_drip_ends_with_the_time_of_the_request() -> None:
    dripped = 0

    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal dripped
        writer.write(b"HTTP/1.1 200 X\r\n\r\n")
        while True:
            writer.write(b".")
            await writer.drain()
            dripped += 1
            await asyncio.sleep(0.01)

    async with peer(drip) as server:
        with pytest.raises(ExchangeFailed) as failed:
            await client(server.port).send(get(), bounds=HttpBounds(seconds=0.2))
        await asyncio.wait_for(server.closed.wait(), 5)

    assert failed.value.fault is ExchangeFault.REQUEST_TIMEOUT
    assert dripped > 1


async def test_a_server_that_never_answers_is_given_up() -> None:
    async def wait(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with peer(wait) as server:
        with pytest.raises(ExchangeFailed) as failed:
            await client(server.port).send(get(), bounds=HttpBounds(seconds=0.05))
        await asyncio.wait_for(server.closed.wait(), 5)

    assert failed.value.fault is ExchangeFault.REQUEST_TIMEOUT


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_cancelled_request_closes_its_connection(scheme: str) -> None:
    entered, closed = asyncio.Event(), asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        entered.set()
        while await reader.read(1000):
            pass
        closed.set()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        sent = asyncio.create_task(client(port).send(get(f"{scheme}://ok.example/"), bounds=BOUNDS))
        await asyncio.wait_for(entered.wait(), 5)

        sent.cancel()

        with pytest.raises(asyncio.CancelledError):
            await sent
        await asyncio.wait_for(closed.wait(), 5)


async def test_a_connection_that_takes_too_long_is_given_up() -> None:
    known = HttpClient(EgressRules(), resolver=HangingResolver(), network=LoopbackNetwork())

    with pytest.raises(ExchangeFailed) as failed:
        await known.send(get(), bounds=HttpBounds(seconds=10, connect_seconds=0.01))

    assert failed.value.fault is ExchangeFault.CONNECT_TIMEOUT


async def test_faults_of_names_and_connections_are_told_apart() -> None:
    unknown = HttpClient(EgressRules(), resolver=FakeResolver(), network=LoopbackNetwork())

    for known, expected in ((unknown, ExchangeFault.DNS), (client(None), ExchangeFault.CONNECT)):
        with pytest.raises(ExchangeFailed) as failed:
            await known.send(get(), bounds=BOUNDS)
        assert failed.value.fault is expected


async def test_an_early_answer_is_read_though_the_body_was_not() -> None:
    async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(http_answer(b"too much", status=413))
        await writer.drain()

    server = await asyncio.start_server(_answering_at_once(refuse), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        request = HttpRequest(method="POST", url=read_url("http://ok.example/"), body=b"x" * 2**20)
        answer = await client(port).send(request, bounds=BOUNDS)

    assert answer.status == 413


def _answering_at_once(handler: Handler) -> Handler:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await handler(reader, writer)
        while await reader.read(2**16):
            pass
        writer.close()

    return serve


async def test_headers_are_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    answer = http_answer(b"secret body", headers=[("Set-Cookie", "secret=1")])

    async with peer(answer) as server:
        request = get("http://ok.example/", ("Authorization", "Bearer secret"))
        said = repr(await client(server.port).send(request, bounds=BOUNDS)) + repr(request)

    assert "secret" not in caplog.text
    assert "secret" not in said

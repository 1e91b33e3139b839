"""What comes over a connection is handed over in pieces and counted, with TLS and without."""

from __future__ import annotations

from pathlib import Path

import httpcore2
import pytest

from libs.net.metered import PIECE_BYTES, Meter, MeteredNetwork
from libs.net.refusals import ExchangeFailed, ExchangeFault
from tests.net_world import LoopbackNetwork, http_answer, peer, self_signed

ASKED = b"GET / HTTP/1.1\r\n\r\n"


async def read_all(stream: httpcore2.AsyncNetworkStream) -> list[bytes]:
    await stream.write(ASKED)
    pieces = []
    while piece := await stream.read(2**20):
        pieces.append(piece)
    await stream.aclose()
    return pieces


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_much_comes_in_small_pieces(scheme: str, tmp_path: Path) -> None:
    server_tls, client_tls = self_signed(tmp_path, "ok.example")
    sent = http_answer(b"x" * 10 * PIECE_BYTES)
    meter = Meter(len(sent))

    async with peer(sent, tls=server_tls if scheme == "https" else None) as server:
        network = MeteredNetwork(LoopbackNetwork(server.port), meter)
        stream = await network.connect_tcp("192.0.2.1", 443)
        if scheme == "https":
            stream = await stream.start_tls(client_tls, "ok.example")
        pieces = await read_all(stream)

    assert b"".join(pieces) == sent
    assert max(map(len, pieces)) == PIECE_BYTES


async def test_what_is_too_much_is_refused_until_the_meter_is_reset() -> None:
    meter = Meter(10)
    meter.take(10)

    with pytest.raises(ExchangeFailed) as failed:
        meter.take(1)
    meter.reset(5)
    meter.take(5)

    assert failed.value.fault is ExchangeFault.TOO_LARGE

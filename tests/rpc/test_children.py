"""Processes that a service starts while it makes calls: none is lost to gRPC."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_PROGRAM = """
import asyncio

import services
import grpc

from libs.process.run import run

CHILDREN = 200


async def call(channel):
    while True:
        try:
            await channel.unary_unary("/none/None")(b"", timeout=1)
        except grpc.aio.AioRpcError:
            pass


async def main(stop):
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channels = [grpc.aio.insecure_channel(f"127.0.0.1:{port}") for _ in range(3)]
    calling = [asyncio.create_task(call(channel)) for channel in channels]
    codes = []
    for _ in range(CHILDREN):
        codes.append(await (await asyncio.create_subprocess_exec("true")).wait())
    for one in calling:
        one.cancel()
    await asyncio.wait(calling)
    for channel in channels:
        await channel.close()
    await server.stop(None)
    print(len(codes), [code for code in codes if code])


run(main, service="executor")
"""


def test_children_of_a_service_that_calls_start_whole() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", _PROGRAM],
        cwd=_ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(_ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (done.returncode, done.stdout) == (0, "200 []\n"), done.stderr
    assert "fork" not in done.stderr

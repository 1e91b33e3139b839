"""Holds two guests until it is killed: `python -m tests.sandbox.docker_owner ADDRESS INSTALLATION`.

One waits for its request, one runs code without end. Says `ready` on stdout.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from libs.process.logs import configure_logs
from services.executor.sandbox.docker import DockerBackend, DockerOwner
from services.executor.sandbox.docker_engine import Engine

LIMITS = {
    "wall_seconds": 60,
    "cpu_seconds": 60,
    "memory_bytes": 200 * 2**20,
    "file_bytes": 8 * 2**20,
    "output_bytes": 128 * 2**10,
    "result_bytes": 256 * 2**10,
}


def code_request(code: str, *, input_data: Any = None, **limits: int) -> bytes:
    """A request of the guest that comes with Pawl."""
    request = {
        "v": 1,
        "id": "1",
        "code": code,
        "input": input_data,
        "seed": 7,
        "now": 1.7e9,
        "limits": LIMITS | limits,
    }
    return json.dumps(request).encode()


async def hold(address: str, installation_id: str) -> None:
    """Start the guests, and never end."""
    configure_logs("executor")
    owner = DockerOwner(installation_id=installation_id, executor_id="executor-1")
    backend = DockerBackend(Engine(address), owner=owner)
    await backend.prepare()
    idle, busy = await backend.start("boot"), await backend.start("boot")
    asking = asyncio.create_task(busy.ask(code_request("while True: pass"), max_answer_bytes=1000))
    await asyncio.sleep(0)
    print(f"ready {idle.name} {busy.name}", flush=True)
    await asking


if __name__ == "__main__":
    asyncio.run(hold(sys.argv[1], sys.argv[2]))

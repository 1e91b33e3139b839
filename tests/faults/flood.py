"""A tenant that floods: `python -m tests.faults.flood HOST PORT KEY PER_SECOND SECONDS`.

In a process of its own, so that it does not slow down who measures. It prints `ready`, and begins
when a line is sent to it. Requests leave when they are due, whatever the answers; what it got it
prints as JSON: counts by status, and what of the refusals said when to come again.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter

CONNECTIONS = 16
BODY = json.dumps({"task_definition": {"expression": "6*7"}}).encode()


async def flood(host: str, port: int, key: str, *, per_second: float, seconds: float) -> None:
    """Send, and print what came back."""
    head = (
        f"POST /api/v1/tasks/execute HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n"
    )
    raw = head.encode() + BODY
    statuses: Counter[str] = Counter()
    loop = asyncio.get_running_loop()
    connections = [await asyncio.open_connection(host, port) for _ in range(CONNECTIONS)]
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    began = loop.time()

    async def one(number: int) -> None:
        reader, writer = connections[number]
        pause = CONNECTIONS / per_second
        due = began + number / per_second
        while due < began + seconds:
            await asyncio.sleep(max(0.0, due - loop.time()))
            due += pause
            writer.write(raw)
            status, headers = await _answer(reader)
            statuses[str(status)] += 1
            if status == 429 and int(headers.get("retry-after", "0")) >= 1:
                statuses["retry_after"] += 1
        writer.close()

    await asyncio.gather(*(one(number) for number in range(CONNECTIONS)))
    print(json.dumps({**statuses, "seconds": round(loop.time() - began, 2)}))


async def _answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    await reader.readexactly(int(headers["content-length"]))
    return int(first.split()[1]), headers


if __name__ == "__main__":
    arguments = sys.argv[1:]
    asyncio.run(
        flood(
            arguments[0],
            int(arguments[1]),
            arguments[2],
            per_second=float(arguments[3]),
            seconds=float(arguments[4]),
        )
    )

"""The same request gives the same answer, each time and everywhere."""

from __future__ import annotations

import json
from typing import Any

from tests.sandbox.guest_world import Backends, GuestWorld

PROBE = """
import asyncio, base64, calendar, datetime, email.utils, hashlib, json, locale, logging, math, os
import random, secrets, socket, string, sys, tempfile, time, uuid
from random import Random
now, zone = datetime.datetime, datetime.timezone
numbers = random.Random()
result = {
    "random": [random.random(), random.randrange(10**9), random.gauss(0, 1)],
    "own generator": [numbers.random(), Random(5).random(), Random().random()],
    "system generator": [random.SystemRandom().random(), secrets.token_hex(8)],
    "bytes": [os.urandom(8).hex(), os.getrandom(8).hex(), random.randbytes(4).hex()],
    "ids": [str(uuid.uuid1()), str(uuid.uuid4()), uuid.getnode()],
    "names": [tempfile.mkdtemp(), tempfile.mktemp(), tempfile.NamedTemporaryFile().name],
    "hash": [hash("pawl"), hash(1.5), hash((1, "a")), list({"one", "two", "three", "four"})],
    "time": [time.time(), time.time_ns(), time.ctime(), time.asctime(), time.strftime("%c %Z")],
    "clock": [time.clock_gettime(time.CLOCK_REALTIME), time.clock_gettime_ns(time.CLOCK_REALTIME)],
    "calendar": [list(time.gmtime()), list(time.localtime()), time.timezone, time.tzname],
    "dates": [str(now.now()), str(now.now(zone.utc)), str(now.utcnow()), str(now.today())],
    "today": [str(datetime.date.today()), type(now.now()) is now, now.now() == now.today()],
    "mail": [email.utils.formatdate(), email.utils.localtime().isoformat()],
    "log": logging.makeLogRecord({}).created,
    "place": [os.getcwd(), socket.gethostname(), sys.argv, sorted(os.environ.items())],
    "locale": [locale.setlocale(locale.LC_ALL), locale.getpreferredencoding()],
    "floats": [math.sin(1e6), math.exp(-1.5), 0.1 + 0.2, sum([0.1] * 10), math.fsum([0.1] * 10)],
    "limits": [sys.getrecursionlimit(), sys.get_int_max_str_digits()],
    "digest": hashlib.sha256(os.urandom(1000)).hexdigest(),
}
print(result["names"], {"x", "y", "z"})
"""


def told(answer: dict[str, Any]) -> str:
    """What of an answer must be the same."""
    parts = {name: answer[name] for name in ("ok", "result", "stdout", "stderr")}
    return json.dumps(parts, sort_keys=True)


async def test_five_guests_say_the_same(guests: GuestWorld) -> None:
    answers = [await guests.run(PROBE) for _ in range(5)]

    assert len({told(answer) for answer in answers}) == 1
    assert answers[0]["result"]["time"][:2] == [1_700_000_000.25, 1_700_000_000_250_000_000]
    assert answers[0]["result"]["dates"][1] == "2023-11-14 22:13:20.250000+00:00"
    assert answers[0]["result"]["today"] == ["2023-11-14", True, True]


async def test_another_seed_and_another_time_say_something_else(guests: GuestWorld) -> None:
    first = await guests.result(PROBE)
    second = await guests.result(PROBE, seed=2, now=1.8e9)

    by_chance = ("random", "own generator", "system generator", "bytes", "ids", "names", "digest")
    by_time = ("time", "clock", "calendar", "dates", "today", "mail", "log")
    for name in by_chance + by_time:
        assert first[name] != second[name], name
    for name in set(first) - {*by_chance, *by_time}:
        assert first[name] == second[name], name


async def test_backends_say_the_same(backends: Backends) -> None:
    """Where they have the same Python; a part that differs with the machine's libraries is none."""
    worlds = [await backends.world(name) for name in ("docker", "bubblewrap")]
    answers = [await world.run(PROBE) for world in worlds]

    assert worlds[0].identity.python[:4] != worlds[1].identity.python[:4] or (
        told(answers[0]) == told(answers[1])
    )


async def test_monotonic_time_goes_on(guests: GuestWorld) -> None:
    code = "import time; a = time.monotonic(); time.sleep(0.02); result = time.monotonic() - a"

    assert await guests.result(code) >= 0.02

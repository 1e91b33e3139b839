"""The cases that take more than one request: floods, slow clients, races."""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
import statistics
import string
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

from libs.core.api_key import make_key
from tests.hostile.case_files import Case, built
from tests.hostile.target import EXECUTE, MATH, Target
from tests.hostile.wire import Answer, read_answer, request
from tests.waiting import eventually

SLOW_SOCKETS = 500
SLOW_BODIES = 100
"""Of the slow sockets, those whose head comes at once, with a good key, and the body slowly."""
OTHERS_P99_SECONDS = 1.0
AT_ONCE = 4
RACE_SECONDS = 0.02
"""How long after the submission the first cancel of a race is sent; the next ones find the end."""
RACE_TASK: dict[str, Any] = {
    "task_definition": {},
    "plan": {
        "steps": [
            {"step_index": 1, "tool": "artifact", "input": {"type": "note", "data": {"n": 1}}},
            {"step_index": 2, "tool": "math", "input": {"expression": "1+1"}},
        ]
    },
}

Runner = Callable[[Case, Target], Awaitable[None]]


def runner_of(case: Case) -> Runner | None:
    """What runs a case of many requests; None for one that is a single request."""
    if "repeat" in case.input:
        return _brute_force
    if "transport" in case.input:
        return _slow_senders
    return {
        "d1+d3.create": _same_key_elsewhere,
        "key.revoke": _revoked_in_use,
        "d2.cancel": _cancelled_at_the_end,
    }.get(case.op, _one_key_many_times if "parallel" in case.input else None)


async def _brute_force(case: Case, target: Target) -> None:
    """Well-formed keys that nobody has: after some tries the address is told to slow down."""
    wire = replace(target.wire, source=_new_source())
    answers = []
    for _ in range(case.input["repeat"]):
        key = make_key(prefix="pawl", mode="live", random_chars=_random_chars()).secret
        answers.append(await wire.send(_create(case.input["body"], key=key)))

    statuses = [answer.status for answer in answers]
    bound = case.expect["after"]
    assert set(statuses) == {401, case.expect["status"]}
    assert statuses[:bound] == [401] * bound
    # A few more are answered 401 as time goes by.
    assert statuses[bound:].count(401) <= sum(answer.seconds for answer in answers) + 1
    refused = [answer for answer in answers if answer.status == case.expect["status"]]
    for answer in refused:
        assert answer.json["code"] == case.expect["code"]
        assert int(answer.headers["retry-after"]) > 0
    # Whoever sits behind the same address and has a good key is not locked out.
    good = await wire.send(request("GET", "/v1/tools", _headers(target.key)))
    assert good.status == 200


async def _same_key_elsewhere(case: Case, target: Target) -> None:
    """One idempotency key on every kind of request that makes tasks: the first has it."""
    named = f"{case.input['headers']['Idempotency-Key']}-{secrets.token_hex(8)}"
    requests: tuple[tuple[str, dict[str, Any]], ...] = (
        (EXECUTE, MATH),
        ("/api/v1/tasks/batch", {"tasks": [MATH]}),
        (f"/api/v1/tasks/{target.names['ID']}/replay", {}),
    )
    for first, *others in itertools.permutations(requests):
        key = f"{named}-{secrets.token_hex(4)}"
        answer = await target.wire.send(_create(first[1], path=first[0], target=target, idem=key))
        assert answer.status == 200, answer
        before = await target.tasks()
        for path, body in others:
            other = await target.wire.send(_create(body, path=path, target=target, idem=key))
            assert other.status in case.expect["status"]
            assert (other.status, other.json["code"]) == (422, case.expect["code"])
        assert await target.tasks() == before


async def _one_key_many_times(case: Case, target: Target) -> None:
    """The same create from many at once makes one task, whoever is first."""
    key = f"{case.input['headers']['Idempotency-Key']}-{secrets.token_hex(8)}"
    raw = _create(case.input["body"], target=target, idem=key)
    before = await target.tasks()

    answers = await asyncio.gather(*(target.wire.send(raw) for _ in range(case.input["parallel"])))

    assert Counter(answer.status for answer in answers) == {200: case.input["parallel"]}
    assert len({answer.json["task_id"] for answer in answers}) == 1
    replayed = [answer.headers.get("idempotent-replayed") == "true" for answer in answers]
    assert replayed.count(False) == case.expect["rows_created"]
    assert await target.tasks() - before == case.expect["rows_created"]


async def _slow_senders(case: Case, target: Target) -> None:
    """Clients that send a byte a second are hung up on, and others do not notice them."""
    pace = 1 / case.input["bytes_per_s"]
    patience = case.expect["max_ms"] / 1000
    async with AsyncExitStack() as stack:
        slow = [
            asyncio.create_task(_slowly(stack, target, pace=pace, whole_head=place < SLOW_BODIES))
            for place in range(SLOW_SOCKETS)
        ]
        others = asyncio.create_task(_others(target, until=slow))
        answers = await asyncio.wait_for(asyncio.gather(*slow), patience + 10)
        seconds = await others

    allowed = {0 if word == "close" else word for word in case.expect["status"]}
    assert {answer.status for answer in answers} <= allowed
    assert max(answer.seconds for answer in answers) <= patience
    assert statistics.quantiles(seconds, n=100)[98] < OTHERS_P99_SECONDS


async def _slowly(
    stack: AsyncExitStack, target: Target, *, pace: float, whole_head: bool
) -> Answer:
    reader, writer = await stack.enter_async_context(target.wire.opened())
    raw = _create(MATH, target=target)
    if whole_head:
        head, _, raw = raw.partition(b"\r\n\r\n")
        writer.write(head + b"\r\n\r\n")
    answer = asyncio.create_task(read_answer(reader, time.perf_counter()))
    for byte in raw:
        writer.write(bytes([byte]))
        done, _ = await asyncio.wait({answer}, timeout=pace)
        if done:
            break
    return await answer


async def _others(target: Target, *, until: list[asyncio.Task[Answer]]) -> list[float]:
    """Seconds of an ordinary client's requests, as long as there are slow ones."""
    seconds = []
    while not all(one.done() for one in until):
        answer = await target.call("GET", "/api/v1/tasks?limit=1", key=target.names["KEY_B"])
        assert answer.status == 200, answer
        seconds.append(answer.seconds)
        await asyncio.sleep(0.02)
    return seconds


async def _revoked_in_use(case: Case, target: Target) -> None:
    """A key that is revoked while many requests a second come with it."""
    made = (await target.call("POST", "/v1/keys", key=target.key, body={})).json
    per_second = int(case.input["while_"].split()[0])
    limit = case.expect["accepted_after_s"]
    wire = replace(target.wire, source=_new_source())
    asked: list[tuple[float, asyncio.Task[Answer]]] = []

    async def ask_for(seconds: float) -> None:
        async for sent in _paced(per_second, seconds=seconds):
            raw = request("GET", "/v1/keys?limit=1", _headers(made["key"]))
            asked.append((sent, asyncio.create_task(wire.send(raw))))

    await ask_for(1.0)
    assert {(await answer).status for _, answer in asked} == {200}
    revoking = asyncio.create_task(target.call("DELETE", f"/v1/keys/{made['id']}", key=target.key))
    await ask_for(1.0)
    assert (await revoking).status == 200
    revoked = time.perf_counter()
    await ask_for(limit + 1.0)

    answers = [(sent - revoked, (await answer).status) for sent, answer in asked]
    late = Counter(status for after, status in answers if after > limit)
    assert late[200] == case.expect["count"]
    # 429: by then the address has tried too many bad keys.
    assert {401, 429} >= set(late)
    assert sum(late.values()) >= per_second / 2


async def _paced(per_second: int, *, seconds: float) -> AsyncIterator[float]:
    """The times at which to send, as they come."""
    began = time.perf_counter()
    for number in range(int(per_second * seconds)):
        await asyncio.sleep(max(0.0, began + number / per_second - time.perf_counter()))
        yield time.perf_counter()


async def _cancelled_at_the_end(case: Case, target: Target) -> None:
    """Cancels that are sent when the last step ends: one of the two wins, and everything says so.

    Each cancel is sent a little later than one that won, and earlier than one that lost.
    """
    rounds = iter(range(case.input["rounds"]))
    outcomes: dict[str, str] = {}
    await asyncio.gather(*(_race(rounds, target, outcomes) for _ in range(AT_ONCE)))

    assert len(outcomes) == case.input["rounds"]
    assert set(outcomes.values()) == set(case.expect["outcomes"])
    await eventually(lambda: _artifacts_agree(target, outcomes), timeout=20)


async def _race(rounds: Iterator[int], target: Target, outcomes: dict[str, str]) -> None:
    delay = RACE_SECONDS
    for _ in rounds:
        task = (await target.call("POST", EXECUTE, key=target.key, body=RACE_TASK)).json["task_id"]
        await asyncio.sleep(delay)
        cancel = await target.call("POST", f"/v1/tasks/{task}/cancel", key=target.key, body={})
        outcomes[task] = await _outcome(target, task, cancel)
        delay *= 1.1 if outcomes[task] == "cancelled" else 0.9


async def _outcome(target: Target, task: str, cancel: Answer) -> str:
    """How a race ended, once cancel's answer, the task and its events agree on it."""
    path = f"/api/v1/tasks/{task}"
    shown = (await target.call("GET", f"{path}?wait=10", key=target.key)).json
    trace = (await target.call("GET", f"{path}/trace", key=target.key)).json
    ends = [
        event["payload"]["to"]
        for event in trace["events"]
        if event["payload"].get("to") in {"succeeded", "failed", "cancelled"}
    ]
    if cancel.status == 200:
        assert (shown["status"], shown["failure"]["code"]) == ("failed", "CANCELLED"), shown
        assert cancel.json["status"] == trace["verification"]["state"] == "cancelled"
        assert len(ends) == 1
        return "cancelled"
    assert (cancel.status, cancel.json["code"]) == (409, "conflict"), cancel
    assert shown["status"] == trace["verification"]["state"] == "succeeded", shown
    assert shown["result"] == {"result": 2}
    assert ends == ["succeeded"]
    return "complete"


async def _artifacts_agree(target: Target, outcomes: dict[str, str]) -> bool:
    """Whether every artifact is there for a task that succeeded, and gone for one that did not."""
    cursor = await target.inspector.execute(
        "SELECT task_id::text, state FROM artifact.artifacts WHERE task_id = ANY(%s::uuid[])",
        (list(outcomes),),
    )
    rows: list[Any] = await cursor.fetchall()
    states = dict(rows)
    wanted: dict[str, set[str | None]] = {
        "complete": {"available"},
        "cancelled": {"discarded", None},
    }
    return all(states.get(task) in wanted[how] for task, how in outcomes.items())


def _headers(key: str) -> list[tuple[str, str]]:
    return [
        ("Connection", "close"),
        ("Authorization", f"Bearer {key}"),
        ("Content-Type", "application/json"),
    ]


def _create(
    body: Any, *, path: str = EXECUTE, target: Target | None = None, key: str = "", idem: str = ""
) -> bytes:
    """The bytes of a request that makes tasks, with the target's good key unless one is given."""
    names = {} if target is None else target.names
    headers = _headers(key or names["KEY"])
    if idem:
        headers.append(("Idempotency-Key", idem))
    return request("POST", path, headers, json.dumps(built(body, names=names)).encode())


def _new_source() -> str:
    """An address of loopback that no other case comes from: bad keys are counted by address."""
    return f"127.{secrets.randbelow(254) + 1}.{secrets.randbelow(254) + 1}.1"


def _random_chars() -> str:
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(32))

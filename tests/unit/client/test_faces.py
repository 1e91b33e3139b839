"""The two clients over real sockets: the same methods, the same answers, the same errors."""

from __future__ import annotations

import inspect
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from libs.client.async_client import AsyncClient
from libs.client.client import Client
from libs.client.errors import BadAddress, NotFound, NotPawl, Refused, Unreachable
from libs.client.retrying import NEVER, Retry
from libs.client.wire import Again
from tests.recorded_traces import AT, TASK_ID, make_trace
from tests.unit.cli.fake_server import FakeServer, Said, fake_server
from tests.unit.client.faces import Awaiting, Blocking
from tests.unit.client.test_calls import ACCEPTED, TOOL, USAGE, task

Face = Blocking | Awaiting
Open = Callable[..., Face]

EXECUTE = "POST /api/v1/tasks/execute"
TASK = f"GET /api/v1/tasks/{TASK_ID}"
EVENTS = f"{TASK}/events"
LAST = (3, "task.status_transition", {"from": "running", "to": "succeeded", "at": AT})


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    with fake_server() as server:
        yield server


@pytest.fixture(params=[Blocking, Awaiting], ids=["blocking", "awaiting"])
def opened(request: pytest.FixtureRequest, fake: FakeServer) -> Iterator[Open]:
    """Makes a client of the fake server; all are closed at the end."""
    made: list[Face] = []

    def make(url: str = "", **how: Any) -> Face:
        made.append(request.param(url or fake.url, **how))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_both_have_the_same_methods_with_the_same_arguments() -> None:
    names = {name for name in vars(Client) if not name.startswith("_")}

    assert names == {name for name in vars(AsyncClient) if not name.startswith("_")}
    for name in (*names, "__init__"):
        blocking, awaiting = (
            inspect.signature(getattr(kind, name)) for kind in (Client, AsyncClient)
        )
        assert blocking.parameters == awaiting.parameters, name
        returned = str(awaiting.return_annotation).replace("AsyncIterator", "Iterator")
        assert returned == str(blocking.return_annotation), name


def test_a_day_with_a_client(opened: Open, fake: FakeServer) -> None:
    client = opened()
    fake.json(EXECUTE, ACCEPTED)
    fake.json("POST /api/v1/tasks/batch", {"tasks": [ACCEPTED]})
    fake.json(f"{TASK}?wait=25", task("succeeded"))
    fake.json(TASK, task("succeeded"))
    fake.json(f"{TASK}/trace", make_trace())
    fake.json(f"POST /api/v1/tasks/{TASK_ID}/replay", ACCEPTED)
    fake.json(f"POST /v1/tasks/{TASK_ID}/cancel", {})
    fake.json("GET /api/v1/tasks/usage", USAGE)
    fake.json("GET /v1/tools?limit=200", {"data": [TOOL], "next_cursor": None})
    fake.json("GET /api/v1/tasks?status=queued", {"data": [task("queued")], "next_cursor": None})
    fake.events(EVENTS, LAST)

    accepted = client.call("submit", {"expression": "1+1"})

    assert client.call("wait", accepted).result == {"result": 4}
    assert client.call("get", accepted).status == "succeeded"
    assert client.call("submit_many", [])[0].task_id == TASK_ID
    assert client.call("trace", accepted).verify().holds
    assert client.call("verify", accepted).holds
    assert client.call("replay", accepted).task_id == TASK_ID
    assert client.call("cancel", accepted).status == "succeeded"
    assert client.call("usage").plan == "pro"
    assert [tool.name for tool in client.call("tools")] == ["math"]
    assert [one.status for one in client.items("list", status="queued")] == ["queued"]
    assert [one.seq for one in client.items("stream", accepted)] == [3]
    assert fake.asked[0].body == {"task_definition": {"expression": "1+1"}}
    assert {one.headers["authorization"] for one in fake.asked} == {"Bearer pawl_test_key"}


def test_any_other_route_can_be_asked(opened: Open, fake: FakeServer) -> None:
    client = opened()
    fake.json("PATCH /v1/x?a=b+c", {"ok": True})
    fake.json("DELETE /v1/x", None, status=204)
    fake.raw("GET /v1/usage?format=csv", b"day\r\n")
    fake.json("GET /v1/keys", {"data": [{"n": 1}], "next_cursor": None})

    assert client.call("request", "PATCH", "/v1/x", query={"a": "b c"}, body={"n": 1}) == {
        "ok": True
    }
    assert client.call("request_text", "/v1/usage", query={"format": "csv"}) == "day\r\n"
    assert client.items("request_pages", "/v1/keys") == [{"n": 1}]
    assert fake.asked[0].body == {"n": 1}


def test_a_lost_submission_is_sent_once_more_with_its_key(opened: Open, fake: FakeServer) -> None:
    told: list[Again] = []
    client = opened(on_retry=told.append)
    fake.drop(EXECUTE)
    fake.json(EXECUTE, ACCEPTED)

    accepted = client.call("submit", {"n": 1})

    assert accepted.task_id == TASK_ID
    assert [one.headers["idempotency-key"] for one in fake.asked] == [accepted.idempotency_key] * 2
    assert [(again.method, again.attempt) for again in told] == [("POST", 1)]


def test_a_lost_cancel_is_not_sent_once_more(opened: Open, fake: FakeServer) -> None:
    client = opened()
    fake.drop(f"POST /v1/tasks/{TASK_ID}/cancel")

    with pytest.raises(Unreachable, match="cannot be reached") as caught:
        client.call("cancel", TASK_ID)

    assert (caught.value.attempts, len(fake.asked)) == (1, 1)


def test_what_is_sent_again_is_warned_of(
    opened: Open, fake: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    client = opened()
    fake.json(TASK, {"code": "rate_limited"}, status=429, headers={"Retry-After": "0"})
    fake.json(TASK, task("running"))

    assert client.call("get", TASK_ID).status == "running"

    (record,) = caplog.records
    assert (record.name, record.levelname) == ("pawl", "WARNING")
    assert "the server answered 429; attempt 1" in record.getMessage()
    assert "pawl_test_key" not in record.getMessage()


def test_an_answer_that_breaks_off_is_lost(opened: Open, fake: FakeServer) -> None:
    client = opened(retry=NEVER)
    fake.say(TASK, Said(kind="application/json", content=b'{"task_id', missing_bytes=50))

    with pytest.raises(Unreachable, match="cannot be reached"):
        client.call("get", TASK_ID)


def test_an_answer_that_does_not_come_is_lost(opened: Open, fake: FakeServer) -> None:
    client = opened(timeout_seconds=0.1, retry=NEVER)
    fake.say("GET /api/v1/tasks/usage", Said(after_seconds=30))

    with pytest.raises(Unreachable, match=r"no answer for 0\.1 s"):
        client.call("usage")


def test_a_closed_port_is_unreachable_in_the_systems_words(opened: Open) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    client = opened(url, retry=Retry(attempts=2))

    with pytest.raises(Unreachable, match=f"{url} cannot be reached: Connection refused") as caught:
        client.call("get", TASK_ID)

    assert caught.value.attempts == 2


@pytest.mark.parametrize("host", ["..", "a" * 64, "no-such-host.invalid"])
def test_a_name_that_cannot_be_resolved_is_unreachable(opened: Open, host: str) -> None:
    client = opened(f"http://{host}", retry=NEVER)

    with pytest.raises(Unreachable, match=re.escape(f"http://{host} cannot be reached: ")):
        client.call("usage")


def test_a_broken_stream_is_taken_up_after_the_last_event(opened: Open, fake: FakeServer) -> None:
    told: list[Again] = []
    client = opened(on_retry=told.append)
    first = (1, "task.step_started", {"at": AT})
    fake.events(EVENTS, first, (2, "task.step_finished", {"at": AT}), missing_bytes=10)
    fake.events(EVENTS, LAST)

    assert [one.seq for one in client.items("stream", TASK_ID)] == [1, 2, 3]

    assert [one.headers.get("last-event-id") for one in fake.asked] == [None, "2"]
    assert len(told) == 1


def test_a_stream_may_be_left(opened: Open, fake: FakeServer) -> None:
    client = opened()
    fake.events(EVENTS, (1, "task.step_started", {"at": AT}), LAST)

    assert [one.seq for one in client.items("stream", TASK_ID, most=1)] == [1]
    assert [one.seq for one in client.items("stream", TASK_ID)] == [1, 3]


def test_silence_ends_a_stream_that_is_to_end_so(opened: Open, fake: FakeServer) -> None:
    client = opened()
    fake.events("GET /v1/events", (1, "task.step_started", {"at": AT}), missing_bytes=10)

    # The fake closes; a server that stays silent is the same to `idle_seconds`.
    fake.say("GET /v1/events", Said(after_seconds=30))
    found = client.items("stream_all", after=0, idle_seconds=0.2)

    assert [one.seq for one in found] == [1]


def test_a_refusal_has_its_words(opened: Open) -> None:
    client = opened()

    with pytest.raises(NotFound) as caught:
        client.call("get", TASK_ID)
    with pytest.raises(Refused):
        client.items("stream", TASK_ID)

    assert caught.value.lines == ["404 (not_found): none"]


def test_a_redirect_takes_the_key_nowhere(opened: Open, fake: FakeServer) -> None:
    client = opened()
    fake.json(TASK, {}, status=307, headers={"Location": f"{fake.url}/elsewhere"})

    with pytest.raises(NotPawl, match="answers 307"):
        client.call("get", TASK_ID)

    assert len(fake.asked) == 1


def test_a_proxy_of_the_environment_is_not_used(
    opened: Open, fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    fake.json(TASK, task("running"))

    assert opened(retry=NEVER).call("get", TASK_ID).status == "running"


def test_a_server_below_a_path_is_asked_there(opened: Open, fake: FakeServer) -> None:
    fake.json(f"GET /pawl/api/v1/tasks/{TASK_ID}", task("running"))

    assert opened(f"{fake.url}/pawl/").call("get", TASK_ID).status == "running"


def test_dots_in_an_id_lead_nowhere_else(opened: Open, fake: FakeServer) -> None:
    client = opened()

    with pytest.raises(NotFound):
        client.call("trace", "..")

    assert fake.asked[0].path == "/api/v1/tasks/%2E%2E/trace"


def test_a_certificate_that_nobody_vouches_for_is_refused(opened: Open, fake: FakeServer) -> None:
    url = fake.url.replace("http:", "https:")
    client = opened(url, retry=NEVER, ssl_context=ssl.create_default_context())

    with pytest.raises(Unreachable, match="cannot be reached"):
        client.call("usage")


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("localhost:80", "k"),
        ("http://", "k"),
        ("http://x?q", "k"),
        ("http://x/#f", "k"),
        ("http://x", "a\nb"),
        ("http://x", ""),
    ],
)
def test_an_address_that_is_none_is_told_at_once(
    kind: type[Client | AsyncClient], url: str, key: str
) -> None:
    with pytest.raises(BadAddress) as caught:
        kind(url, key)

    assert isinstance(caught.value, ValueError)


def test_clients_are_context_managers(fake: FakeServer) -> None:
    fake.json(TASK, task("running"))

    with Client(fake.url, "k") as client:
        assert client.get(TASK_ID).status == "running"


async def test_async_clients_are_context_managers(fake: FakeServer) -> None:
    fake.json(TASK, task("running"))

    async with AsyncClient(fake.url, "k") as client:
        assert (await client.get(TASK_ID)).status == "running"

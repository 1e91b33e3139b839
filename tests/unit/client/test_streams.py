"""Events once and in order whatever breaks, and lists page by page."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from libs.client import streams
from libs.client.errors import NotFound, NotPawl, RateLimited, Unreachable
from libs.client.listing import list_query
from libs.client.tasks import Event
from libs.client.wire import Answer, Lost
from tests.recorded_traces import AT, TASK_ID
from tests.unit.client.scripted import make_calls, refused, said, script
from tests.unit.client.test_calls import task

OPENED = Answer(status=200, headers={"content-type": "text/event-stream; charset=utf-8"})
END = b""
PATH = f"/api/v1/tasks/{TASK_ID}/events"
calls = make_calls()
of_task = streams.of_task(TASK_ID)


def event(seq: int, *, to: str | None = None) -> bytes:
    """One event as it goes over the wire; with `to` a transition."""
    name = "task.step_started" if to is None else "task.status_transition"
    payload: dict[str, Any] = {"at": AT} if to is None else {"from": "x", "to": to, "at": AT}
    data = {"event": name, "payload": payload, "created_at": AT, "seq": seq, "task_id": TASK_ID}
    return f"id: {seq}\nevent: {name}\ndata: {json.dumps(data)}\n\n".encode()


def seqs(found: list[Event]) -> list[int]:
    """The numbers of events."""
    return [one.seq for one in found]


def last_ids(server: Any) -> list[str | None]:
    """What each connection said it had."""
    return [one.headers.get("Last-Event-ID") for one in server.asked if one.path == PATH]


def test_a_stream_gives_each_event_and_ends_with_the_task() -> None:
    server = script(OPENED, b": open\n\n" + event(1), event(2) + event(3, to="succeeded"))

    found = server.items(streams.follow(calls, of_task, after=None))

    assert seqs(found) == [1, 2, 3]
    assert found[2].is_last
    assert found[0].created_at == datetime(2026, 2, 27, 11, 18, 2, 991451, tzinfo=UTC)
    (asked,) = server.asked
    assert (asked.method, asked.path, asked.headers["Accept"]) == ("GET", PATH, "text/event-stream")
    assert last_ids(server) == [None]


def test_a_stream_begins_after_the_event_that_is_named() -> None:
    server = script(OPENED, event(5, to="failed"))

    assert seqs(server.items(streams.follow(calls, of_task, after=4))) == [5]
    assert last_ids(server) == ["4"]


@pytest.mark.parametrize("event_id", ["x", "\N{ARABIC-INDIC DIGIT THREE}", "9" * 5000])
def test_an_event_whose_id_is_no_number_is_not_pawls(event_id: str) -> None:
    sent = event(1).replace(b"id: 1", b"id: " + event_id.encode())

    with pytest.raises(NotPawl, match="no number"):
        script(OPENED, sent).items(streams.follow(calls, of_task, after=None))


def test_an_event_without_end_is_not_kept() -> None:
    piece = b"data: " + b"x" * streams.MOST_EVENT_BYTES

    with pytest.raises(NotPawl, match="without end"):
        script(OPENED, piece, piece).items(streams.follow(calls, of_task, after=None))
    with pytest.raises(NotPawl, match="without end"):
        script(OPENED, piece + b"\n", piece).items(streams.follow(calls, of_task, after=None))


def test_a_broken_stream_goes_on_after_the_last_event_and_is_told() -> None:
    half = event(3)[:20]
    server = script(
        *(OPENED, event(1) + event(2) + half, Lost("Connection reset by peer")),
        Lost("Connection refused"),
        *(OPENED, event(3, to="succeeded")),
    )

    found = server.items(streams.follow(calls, of_task, after=None))

    assert seqs(found) == [1, 2, 3]
    assert last_ids(server) == [None, "2", "2"]
    assert [again.reason for again in server.told] == [
        "Connection reset by peer",
        "Connection refused",
    ]
    assert server.pauses == [0.25, 0.25]


def test_a_stream_that_ends_early_goes_on_after_a_look_at_the_task() -> None:
    server = script(
        *(OPENED, END, said(task("running"))),
        *(OPENED, event(1, to="succeeded")),
    )

    assert seqs(server.items(streams.follow(calls, of_task, after=None))) == [1]
    assert server.told[0].reason == "it ended early"


def test_a_stream_that_gives_nothing_of_an_ended_task_is_all() -> None:
    server = script(OPENED, END, said(task("succeeded")))

    assert server.items(streams.follow(calls, of_task, after=9)) == []
    assert server.told == []


def test_a_stream_that_was_cut_while_events_came_is_taken_up_at_once() -> None:
    server = script(OPENED, event(1), END, OPENED, event(2, to="failed"))

    assert seqs(server.items(streams.follow(calls, of_task, after=None))) == [1, 2]
    assert server.pauses == []


def test_no_content_says_that_all_is_known() -> None:
    server = script(said(status=204))

    assert server.items(streams.follow(calls, of_task, after=7)) == []


def test_an_event_that_comes_again_is_not_given_again() -> None:
    server = script(
        *(OPENED, event(1) + event(2), Lost("reset")),
        *(OPENED, event(1) + event(2) + event(3, to="succeeded")),
    )

    assert seqs(server.items(streams.follow(calls, of_task, after=None))) == [1, 2, 3]


def test_ten_vain_tries_in_a_row_are_enough() -> None:
    server = script(*[Lost("Connection refused")] * 10)

    with pytest.raises(Unreachable, match=r"the stream from .* broke: Connection refused"):
        server.items(streams.follow(calls, of_task, after=None))

    assert len(server.told) == 9
    assert sum(server.pauses) == pytest.approx(13.75)


def test_a_stream_that_goes_on_now_and_then_is_never_given_up() -> None:
    broken: list[Answer | Lost | bytes] = []
    for seq in range(1, 21):
        broken += [*[Lost("reset")] * 9, OPENED, event(seq), Lost("reset")]
    server = script(*broken, OPENED, event(21, to="succeeded"))

    assert seqs(server.items(streams.follow(calls, of_task, after=None))) == [*range(1, 22)]


def test_events_before_a_refusal_are_given() -> None:
    server = script(OPENED, event(1), Lost("reset"), refused(404, "not_found"))
    found: list[Event] = []

    with pytest.raises(NotFound):
        server.collect(streams.follow(calls, of_task, after=None), found)

    assert seqs(found) == [1]


def test_a_server_that_asks_to_come_back_is_asked_again_then() -> None:
    server = script(refused(503, retry_after="3"), OPENED, event(1, to="failed"))

    assert seqs(server.items(streams.follow(calls, of_task, after=None))) == [1]
    assert server.pauses == [3.0]


def test_a_server_that_asks_for_too_long_a_pause_is_refusing() -> None:
    server = script(refused(429, retry_after="3600"))

    with pytest.raises(RateLimited):
        server.items(streams.follow(calls, of_task, after=None))


@pytest.mark.parametrize(
    "outcomes",
    [
        [said({"data": []})],
        [said(status=302)],
        [OPENED, b"data: {\n\n"],
        [OPENED, b"data: []\n\n"],
        [OPENED, b'data: {"event": "x"}\n\n'],
    ],
)
def test_what_is_no_stream_of_events_is_not_pawls(outcomes: list[Answer | Lost | bytes]) -> None:
    with pytest.raises(NotPawl):
        script(*outcomes).items(streams.follow(calls, of_task, after=None))


def test_the_stream_of_all_tasks_does_not_end_with_one() -> None:
    source = streams.of_all(idle_seconds=None)
    server = script(
        *(OPENED, event(1, to="succeeded") + event(2), Lost("reset")),
        *(OPENED, event(3), Lost("reset")),
        refused(404),
    )
    found: list[Event] = []

    with pytest.raises(NotFound):
        server.collect(streams.follow(calls, source, after=None), found)

    assert seqs(found) == [1, 2, 3]
    assert [one.headers.get("Last-Event-ID") for one in server.asked] == [None, "2", "3"]


@pytest.mark.parametrize("end", [Lost("silent", is_silence=True), END])
def test_the_stream_of_all_tasks_ends_when_nothing_more_comes_if_that_is_wished(
    end: Lost | bytes,
) -> None:
    source = streams.of_all(idle_seconds=1)
    server = script(OPENED, event(1), end)

    assert seqs(server.items(streams.follow(calls, source, after=0))) == [1]
    assert (server.asked[0].silence_seconds, server.asked[0].path) == (1, "/v1/events")
    assert server.asked[0].headers["Last-Event-ID"] == "0"


def test_a_stream_is_lost_when_not_even_a_ping_comes() -> None:
    server = script(OPENED, event(1, to="succeeded"))

    server.items(streams.follow(calls, of_task, after=None))

    assert server.asked[0].silence_seconds == 60


def test_a_list_is_read_page_by_page() -> None:
    pages = [
        {"data": [task("queued"), task("running")], "next_cursor": "c1"},
        {"data": [], "next_cursor": "c2"},
        {"data": [task("succeeded")], "next_cursor": None},
    ]
    server = script(*map(said, pages))
    query = list_query(
        status=("queued", "running"),
        created_from=datetime(2026, 2, 1, tzinfo=UTC),
        created_before=None,
        replay_of=TASK_ID,
        agent_id=None,
        mode="live",
        page_size=2,
    )

    found = server.items(streams.tasks(calls, query))

    assert [one.status for one in found] == ["queued", "running", "succeeded"]
    first, second, third = (one.path for one in server.asked)
    assert first == (
        "/api/v1/tasks?status=queued%2Crunning&created_from=2026-02-01T00%3A00%3A00%2B00%3A00"
        f"&replay_of_task_id={TASK_ID}&mode=live&limit=2"
    )
    assert (second, third) == (f"{first}&cursor=c1", f"{first}&cursor=c2")


def test_a_list_whose_tasks_lack_their_plan_is_read() -> None:
    listed = {name: value for name, value in task("succeeded").items() if name != "plan"}
    server = script(said({"data": [listed], "next_cursor": None}))

    (found,) = server.items(streams.tasks(calls, {"status": None}))

    assert (found.plan, found.result) == (None, {"result": 4})
    assert server.asked[0].path == "/api/v1/tasks"


@pytest.mark.parametrize("page", [{}, {"data": {}}, {"data": [1], "next_cursor": None}])
def test_what_is_no_page_is_not_pawls(page: dict[str, Any]) -> None:
    with pytest.raises(NotPawl):
        script(said(page)).items(streams.tasks(calls, {}))
    with pytest.raises(NotPawl):
        script(said(page)).items(streams.objects(calls, "/v1/keys", {}))

"""What is sent once more, when, and how that is told."""

from __future__ import annotations

import pytest

from libs.client.errors import RateLimited, Refused, Unavailable, Unreachable
from libs.client.retrying import NEVER, Retry, backoff_seconds, pause_seconds
from libs.client.submissions import Submission
from libs.client.wire import Again, Answer, Lost, Request
from tests.recorded_traces import TASK_ID
from tests.unit.client.scripted import make_calls, refused, said, script
from tests.unit.client.test_calls import ACCEPTED, USAGE, task

LOST = Lost("Connection reset by peer")


def _request(method: str, *, key: bool = False) -> Request:
    headers = {"Idempotency-Key": "k"} if key else {}
    return Request(method=method, path="/x", silence_seconds=1, headers=headers)


def _answer(status: int, retry_after: str | None) -> Answer:
    return refused(status, retry_after=retry_after)


@pytest.mark.parametrize(
    ("request_", "outcome", "pause"),
    [
        (_request("GET"), LOST, 0.25),
        (_request("POST", key=True), LOST, 0.25),
        (_request("POST"), LOST, None),
        (_request("DELETE"), LOST, None),
        (_request("PATCH"), LOST, None),
        (_request("GET"), _answer(503, "2"), 2.0),
        (_request("POST", key=True), _answer(503, "2"), 2.0),
        (_request("POST"), _answer(503, "2"), None),
        (_request("POST"), _answer(429, "2"), 2.0),
        (_request("GET"), _answer(429, "0"), 0.0),
        (_request("GET"), _answer(429, None), None),
        (_request("GET"), _answer(503, None), None),
        (_request("GET"), _answer(503, "Fri, 31 Dec 1999 23:59:59 GMT"), None),
        (_request("GET"), _answer(503, "-1"), None),
        (_request("GET"), _answer(503, "1e3"), None),
        (_request("GET"), _answer(500, "2"), None),
        (_request("GET"), _answer(502, "2"), None),
        (_request("GET"), _answer(404, "2"), None),
        (_request("GET"), _answer(200, "2"), None),
    ],
)
def test_only_what_is_safe_is_sent_again(
    request_: Request, outcome: Answer | Lost, pause: float | None
) -> None:
    assert pause_seconds(request_, outcome, 1) == pause


def test_pauses_grow_to_a_bound() -> None:
    assert [backoff_seconds(n) for n in (1, 2, 3, 4, 5, 1000)] == [0.25, 0.5, 1.0, 2.0, 2.0, 2.0]


def test_a_lost_submission_is_sent_again_with_the_same_key_and_told() -> None:
    server = script(LOST, LOST, said(ACCEPTED))

    steps = make_calls().submit(Submission(), idempotency_key=None, wait_seconds=0)
    assert server.run(steps).task_id == TASK_ID

    assert len({one.headers["Idempotency-Key"] for one in server.asked}) == 1
    assert server.pauses == [0.25, 0.5]
    assert server.told[0] == Again(
        method="POST",
        path="/api/v1/tasks/execute",
        attempt=1,
        reason="Connection reset by peer",
        wait_seconds=0.25,
    )
    assert [again.attempt for again in server.told] == [1, 2]


def test_it_ends_after_as_many_attempts_as_are_allowed() -> None:
    server = script(LOST, LOST, LOST)

    with pytest.raises(Unreachable) as caught:
        server.run(make_calls(Retry(attempts=3)).usage(month=None))

    assert caught.value.attempts == 3
    assert len(server.told) == 2


def test_the_last_refusal_says_how_often_was_asked() -> None:
    busy = refused(429, "rate_limited", retry_after="1")
    server = script(busy, busy, busy, busy)

    with pytest.raises(RateLimited) as caught:
        server.run(make_calls().usage(month=None))

    assert (caught.value.attempts, caught.value.retry_after_seconds) == (4, 1.0)


def test_the_pauses_of_a_call_are_bounded_in_sum() -> None:
    busy = refused(503, retry_after="4")
    server = script(busy, busy, busy)

    with pytest.raises(Unavailable) as caught:
        server.run(make_calls(Retry(attempts=9, total_seconds=10)).usage(month=None))

    assert caught.value.attempts == 3
    assert server.pauses == [4.0, 4.0]


def test_a_pause_beyond_the_bound_is_not_begun() -> None:
    server = script(refused(429, retry_after="3600"))

    with pytest.raises(RateLimited) as caught:
        server.run(make_calls().usage(month=None))

    assert (caught.value.retry_after_seconds, server.pauses) == (3600.0, [])


def test_nothing_is_sent_again_when_that_is_wished() -> None:
    for outcome in (LOST, refused(429, retry_after="1")):
        server = script(outcome)

        with pytest.raises((Unreachable, Refused)):
            server.run(make_calls(NEVER).usage(month=None))

        assert (len(server.asked), server.told) == (1, [])


def test_a_cancel_is_not_sent_twice() -> None:
    server = script(LOST)

    with pytest.raises(Unreachable):
        server.run(make_calls().cancel(TASK_ID))

    assert len(server.asked) == 1


def test_a_look_after_a_refusal_succeeds() -> None:
    server = script(refused(503, retry_after="1"), said(task("running")))

    assert server.run(make_calls().get(TASK_ID, wait_seconds=0)).status == "running"
    assert server.told[0].reason == "the server answered 503"


def test_every_call_begins_anew() -> None:
    calls = make_calls(Retry(attempts=2, total_seconds=1))
    server = script(LOST, said(USAGE), LOST, said(USAGE))

    for left in (2, 0):
        server.run(calls.usage(month=None), left=left)

    assert server.pauses == [0.25, 0.25]


@pytest.mark.parametrize("bad", [{"attempts": 0}, {"total_seconds": -1}])
def test_a_policy_that_cannot_be_is_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="attempts must be at least 1"):
        Retry(**bad)

"""What each call sends, and what it makes of the answers."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from libs.client.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    NotPawl,
    RateLimited,
    Refused,
    Unauthenticated,
    Unavailable,
    Unreachable,
)
from libs.client.retrying import NEVER
from libs.client.submissions import Submission
from libs.client.tasks import Accepted, Task, TaskFailed, WaitExpired
from libs.client.wire import Lost
from libs.core.plan import Limits, Plan, Step
from tests.recorded_traces import AT, PLAN, TASK_ID, make_trace
from tests.unit.client.scripted import FRESH_KEY, KEY, URL, make_calls, refused, said, script

ACCEPTED = {
    "version": "pawl-0.0.0",
    "task_id": TASK_ID,
    "status": "queued",
    "duration_seconds": 0.0,
    "cost_usd": 0.0,
    "result": {"queued": True},
    "error": None,
    "failure": None,
}
FAILURE = {
    "step": "math",
    "index": 2,
    "code": "TOOL_ERROR",
    "message": "division by zero",
    "reason": "MATH_DOMAIN",
}
USAGE = {
    "user_id": 42,
    "email": "eng@example.com",
    "plan": "pro",
    "monthly_requests": 1643,
    "monthly_task_executions": 1588,
    "total_usage_usd": 23.48,
    "rate_limit_per_minute": 120,
    "max_timeout_seconds": None,
    "max_tasks_per_request": 1,
    "active_tasks": 2,
}
TOOL = {
    "name": "math",
    "version": "1.0.0",
    "description": "Evaluates an arithmetic expression.",
    "effects": ["pure"],
    "input_schema": {"type": "object"},
    "output_schema": {"type": "object"},
    "examples": [{"title": "A sum", "input": {"expression": "1+1"}, "output": {"result": 2}}],
    "digest": "ab" * 32,
    "available": True,
    "registered_at": AT,
}
calls = make_calls()


def task(status: str, **change: Any) -> dict[str, Any]:
    """A task as the server shows it."""
    return {
        "version": "pawl-0.0.0",
        "id": TASK_ID,
        "task_id": TASK_ID,
        "input": {},
        "status": status,
        "plan": PLAN.as_json(),
        "created_at": AT,
        "result": {"result": 4} if status == "succeeded" else None,
        "failure": FAILURE if status == "failed" else None,
        **change,
    }


def test_submit_sends_what_is_given_and_nothing_else() -> None:
    server = script(said(ACCEPTED))
    due = datetime(2026, 6, 15, 9, tzinfo=UTC)
    submission = Submission(
        task_definition={"topic": "x"}, plan=PLAN, max_steps=3, priority=0, scheduled_at=due
    )

    server.run(calls.submit(submission, idempotency_key="k-1", wait_seconds=0))

    (asked,) = server.asked
    assert (asked.method, asked.path) == ("POST", "/api/v1/tasks/execute")
    assert json.loads(asked.body or b"") == {
        "task_definition": {"topic": "x"},
        "plan": PLAN.as_json(),
        "max_steps": 3,
        "priority": 0,
        "scheduled_at": "2026-06-15T09:00:00+00:00",
    }
    assert asked.headers == {
        "Authorization": f"Bearer {KEY}",
        "Accept": "application/json",
        "Content-Type": "application/json",
        "Idempotency-Key": "k-1",
    }


def test_submit_makes_a_key_when_none_is_given_and_says_it() -> None:
    server = script(said(ACCEPTED, headers={"x-request-id": "req_1"}))

    accepted = server.run(calls.submit(Submission(), idempotency_key=None, wait_seconds=0))

    assert server.asked[0].headers["Idempotency-Key"] == FRESH_KEY
    assert accepted == Accepted(
        task_id=TASK_ID,
        status="queued",
        result={"queued": True},
        version="pawl-0.0.0",
        idempotency_key=FRESH_KEY,
        request_id="req_1",
        raw={},
    )
    assert accepted.raw == ACCEPTED
    assert not accepted.has_ended


def test_submit_says_when_the_key_had_been_used() -> None:
    server = script(said(ACCEPTED, headers={"idempotent-replayed": "true"}))

    accepted = server.run(calls.submit(Submission(), idempotency_key="k", wait_seconds=0))

    assert accepted.is_replayed


def test_a_wait_is_asked_for_and_waited_for() -> None:
    server = script(said(ACCEPTED), said(task("running")))

    server.run(calls.submit(Submission(), idempotency_key=None, wait_seconds=25), left=1)
    server.run(calls.get(TASK_ID, wait_seconds=2.5))

    assert [one.path for one in server.asked] == [
        "/api/v1/tasks/execute?wait=25",
        f"/api/v1/tasks/{TASK_ID}?wait=2.5",
    ]
    assert all(one.silence_seconds >= 35 for one in server.asked)


def test_without_a_wait_an_answer_may_stay_away_no_longer_than_was_set() -> None:
    server = script(said(task("running")))

    server.run(replace(calls, silence_seconds=3).get(TASK_ID, wait_seconds=0))

    assert [one.silence_seconds for one in server.asked] == [3]


@pytest.mark.parametrize("wait_seconds", [-1, math.nan])
def test_a_wait_that_is_none_is_left_to_the_server_to_refuse(wait_seconds: float) -> None:
    server = script(refused(422))

    with pytest.raises(Invalid):
        server.run(calls.get(TASK_ID, wait_seconds=wait_seconds))

    assert server.asked[0].path == f"/api/v1/tasks/{TASK_ID}?wait={wait_seconds}"


@pytest.mark.parametrize("key", ["", " ", "a ", "é", "a\r\nX-Other: b"])
def test_an_idempotency_key_that_cannot_be_sent_is_told_before_anything_is(key: str) -> None:
    server = script()

    with pytest.raises(ValueError, match=r"(?i)idempotency.key"):
        server.run(calls.submit(Submission(), idempotency_key=key, wait_seconds=0))
    with pytest.raises(ValueError, match=r"(?i)idempotency.key"):
        server.run(calls.submit_many([], idempotency_key=key))

    assert server.asked == []


def test_submit_many_sends_one_batch_with_one_key() -> None:
    other = ACCEPTED | {"task_id": "0198c0de-7000-7abc-8def-000000000002"}
    server = script(said({"version": "x", "tasks": [ACCEPTED, other]}))
    submissions = [Submission(task_definition={"n": n}) for n in (1, 2)]

    found = server.run(calls.submit_many(submissions, idempotency_key=None))

    (asked,) = server.asked
    assert (asked.method, asked.path) == ("POST", "/api/v1/tasks/batch")
    assert json.loads(asked.body or b"") == {
        "tasks": [{"task_definition": {"n": 1}}, {"task_definition": {"n": 2}}]
    }
    assert [one.task_id for one in found] == [TASK_ID, other["task_id"]]
    assert {one.idempotency_key for one in found} == {FRESH_KEY}


def test_a_batch_without_tasks_in_its_answer_is_not_pawls() -> None:
    with pytest.raises(NotPawl, match="has no 'tasks'"):
        script(said({})).run(calls.submit_many([], idempotency_key=None))


def test_get_reads_the_task_with_its_plan() -> None:
    queue = {"reason": "no_slot", "detail": "all are busy", "position": 3}
    shown = task("queued", queue=queue, a_member_of_tomorrow=[1])

    found = script(said(shown)).run(calls.get(TASK_ID, wait_seconds=0))

    assert (found.task_id, found.status, found.has_ended) == (TASK_ID, "queued", False)
    assert found.plan == Plan(
        steps=tuple(Step(step_index=s.step_index, tool=s.tool, input=s.input) for s in PLAN.steps),
        limits=Limits(max_steps=12, max_total_seconds=45, max_step_seconds=10),
    )
    assert found.created_at == datetime(2026, 2, 27, 11, 18, 2, 991451, tzinfo=UTC)
    assert found.queue is not None
    assert found.queue.position == 3
    assert found.raw == shown


def test_a_task_can_be_named_by_what_was_answered() -> None:
    server = script(said(ACCEPTED), said(task("running")), said(task("running")))

    submitting = calls.submit(Submission(), idempotency_key=None, wait_seconds=0)
    accepted = server.run(submitting, left=2)
    found = server.run(calls.get(accepted, wait_seconds=0), left=1)
    server.run(calls.get(found, wait_seconds=0))

    assert {one.path for one in server.asked[1:]} == {f"/api/v1/tasks/{TASK_ID}"}


@pytest.mark.parametrize(
    ("given", "segment"),
    [
        ("../v1/keys?x#y", "..%2Fv1%2Fkeys%3Fx%23y"),
        ("..", "%2E%2E"),
        (".", "%2E"),
        ("a b", "a%20b"),
        ("ä", "%C3%A4"),
        ("\udcff", "%3F"),
    ],
)
def test_an_id_stays_one_segment_of_the_path(given: str, segment: str) -> None:
    server = script(said(task("running")))

    server.run(calls.get(given, wait_seconds=0))

    assert server.asked[0].path == f"/api/v1/tasks/{segment}"


def test_wait_asks_until_the_task_has_ended() -> None:
    server = script(
        said(task("queued")), said(task("running")), said(task("succeeded")), seconds=25
    )

    found = server.run(calls.wait(TASK_ID, timeout_seconds=None))

    assert (found.status, found.result) == ("succeeded", {"result": 4})
    assert {one.path for one in server.asked} == {f"/api/v1/tasks/{TASK_ID}?wait=25"}
    assert server.pauses == []


def test_wait_expires_and_says_how_the_task_stood() -> None:
    server = script(said(task("queued")), said(task("running")), seconds=25)

    with pytest.raises(WaitExpired, match="is running") as expired:
        server.run(calls.wait(TASK_ID, timeout_seconds=30))

    assert expired.value.task.status == "running"
    assert isinstance(expired.value, TimeoutError)
    assert [one.path.rpartition("=")[2] for one in server.asked] == ["25", "5"]


def test_wait_of_no_time_looks_once() -> None:
    server = script(said(task("running")))

    with pytest.raises(WaitExpired):
        server.run(calls.wait(TASK_ID, timeout_seconds=0))

    assert [one.path for one in server.asked] == [f"/api/v1/tasks/{TASK_ID}"]


@pytest.mark.parametrize(("asked_for", "pause"), [("", 1.0), ("4", 4.0)])
def test_wait_rests_when_the_server_did_not_wait(asked_for: str, pause: float) -> None:
    early = said(task("running"), headers={"retry-after": asked_for})
    server = script(early, said(task("succeeded")))

    server.run(calls.wait(TASK_ID, timeout_seconds=None))

    assert server.pauses == [pause]


def test_cancel_asks_for_it_and_shows_what_became_of_the_task() -> None:
    cancelled = task("failed", failure={"code": "CANCELLED", "message": "on request"})
    server = script(said({"status": "cancelled"}), said(cancelled))

    found = server.run(calls.cancel(TASK_ID))

    assert (found.status, found.is_cancelled) == ("failed", True)
    assert [(one.method, one.path) for one in server.asked] == [
        ("POST", f"/v1/tasks/{TASK_ID}/cancel"),
        ("GET", f"/api/v1/tasks/{TASK_ID}"),
    ]


def test_cancel_of_an_ended_task_is_a_conflict() -> None:
    with pytest.raises(Conflict):
        script(refused(409, "conflict")).run(calls.cancel(TASK_ID))


def test_replay_makes_a_new_task_with_a_key() -> None:
    server = script(said(ACCEPTED))

    steps = calls.replay(TASK_ID, mode="recorded", idempotency_key=None, wait_seconds=1)
    accepted = server.run(steps)

    (asked,) = server.asked
    assert (asked.method, asked.path) == ("POST", f"/api/v1/tasks/{TASK_ID}/replay?wait=1")
    assert json.loads(asked.body or b"") == {"mode": "recorded"}
    assert asked.headers["Idempotency-Key"] == FRESH_KEY
    assert accepted.task_id == TASK_ID


def test_trace_reads_everything_and_verifies_offline() -> None:
    shown = make_trace()

    trace = script(said(shown)).run(calls.trace(TASK_ID))

    assert [step.tool_name for step in trace.steps] == ["math", "math", "json_query"]
    assert trace.summary.task_hash == shown["summary"]["task_hash"]
    assert trace.verify().holds
    assert not trace.verify(expected_task_hash="00" * 32).holds
    assert trace.raw == shown


def test_verify_computes_the_hashes_of_what_was_fetched() -> None:
    changed = make_trace()
    changed["verification"]["steps"][1]["output"] = {"result": 5}

    report = script(said(changed)).run(calls.verify(TASK_ID, expected_task_hash=None))

    assert report.first_difference is not None
    assert report.first_difference.subject == "step 2 (math)"


def test_usage_reads_the_account() -> None:
    server = script(said(USAGE), said(USAGE))

    usage = server.run(calls.usage(month=None), left=1)
    server.run(calls.usage(month="2026-02"))

    assert (usage.plan, usage.active_tasks, usage.max_timeout_seconds) == ("pro", 2, None)
    assert [one.path for one in server.asked] == [
        "/api/v1/tasks/usage",
        "/api/v1/tasks/usage?month=2026-02",
    ]


def test_tools_reads_the_whole_catalogue() -> None:
    server = script(
        said({"data": [TOOL], "next_cursor": "c d"}), said({"data": [TOOL], "next_cursor": None})
    )

    tools = server.run(calls.tools())

    assert [(tool.name, tool.effects, tool.available) for tool in tools] == [
        ("math", ("pure",), True)
    ] * 2
    assert tools[0].examples[0].output == {"result": 2}
    assert [one.path for one in server.asked] == [
        "/v1/tools?limit=200",
        "/v1/tools?limit=200&cursor=c+d",
    ]


def test_a_page_that_follows_itself_is_not_read_for_ever() -> None:
    page = said({"data": [], "next_cursor": "c"})

    with pytest.raises(NotPawl, match="follows itself"):
        script(page, page).run(calls.tools())


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Invalid),
        (401, Unauthenticated),
        (403, Forbidden),
        (404, NotFound),
        (405, Invalid),
        (409, Conflict),
        (413, Invalid),
        (422, Invalid),
        (429, RateLimited),
        (500, Unavailable),
        (503, Unavailable),
        (599, Unavailable),
    ],
)
def test_each_refusal_has_its_exception(status: int, kind: type[Refused]) -> None:
    with pytest.raises(Refused) as caught:
        script(refused(status, "a_code")).run(calls.usage(month=None))

    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.code, caught.value.detail) == (status, "a_code", "no")


def test_a_refusal_names_the_fields() -> None:
    problem = {
        "code": "validation_failed",
        "detail": "a field is wrong",
        "request_id": "req_1",
        "errors": [
            {"field": "plan.steps[0].tool", "code": "unknown", "detail": "nobody has it"},
            1,
        ],
    }
    with pytest.raises(Invalid) as caught:
        script(said(problem, status=422)).run(calls.usage(month=None))

    (error,) = caught.value.errors
    assert (error.field, error.pointer) == ("plan.steps[0].tool", "/plan/steps/0/tool")
    assert caught.value.request_id == "req_1"
    assert str(caught.value) == "422 (validation_failed): a field is wrong"


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"\xff", b"[" * 100_000])
def test_a_refusal_without_a_problem_is_one_too(body: bytes) -> None:
    answer = said(status=502)

    with pytest.raises(Unavailable, match="502: Bad Gateway"):
        script(type(answer)(status=502, headers={}, body=body)).run(calls.usage(month=None))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html>", "not with JSON"),
        (b"[" * 100_000, "not with JSON"),
        (b"[]", "not as Pawl does"),
        (b"{}", "it has no 'task_id'"),
        (json.dumps(task("running", created_at="soon")).encode(), "created_at is not a time"),
        (json.dumps(task("running", priority="high")).encode(), "priority is not an integer"),
        (json.dumps(task("running", plan={"steps": [{}]})).encode(), "plan.steps[0] has no"),
    ],
)
def test_an_answer_that_is_not_pawls_is_told(body: bytes, words: str) -> None:
    answer = said()

    with pytest.raises(NotPawl) as caught:
        script(type(answer)(status=200, headers={}, body=body)).run(
            calls.get(TASK_ID, wait_seconds=0)
        )

    assert isinstance(caught.value, Unreachable)
    assert words in str(caught.value)
    assert URL in str(caught.value)


def test_a_redirect_is_not_followed_but_shown() -> None:
    elsewhere = said(status=301, headers={"location": "https://other.example/"})

    with pytest.raises(NotPawl, match=r"answers 301.*https://other\.example/"):
        script(elsewhere).run(calls.usage(month=None))


def test_nobody_there_is_unreachable() -> None:
    server = script(Lost("Connection refused"))

    with pytest.raises(Unreachable, match=f"{URL} cannot be reached: Connection refused"):
        server.run(make_calls(NEVER).usage(month=None))


def test_a_body_that_is_no_json_is_refused_before_it_is_sent() -> None:
    submission = Submission(task_definition={"x": float("nan")})

    with pytest.raises(ValueError, match="not JSON compliant"):
        script().run(calls.submit(submission, idempotency_key=None, wait_seconds=0))


def test_a_due_time_without_an_offset_is_refused_before_it_is_sent() -> None:
    naive = datetime(2026, 6, 15)  # noqa: DTZ001 - what it is about

    with pytest.raises(ValueError, match="scheduled_at has no offset from UTC"):
        Submission(scheduled_at=naive).as_json()


def test_a_failed_task_can_be_raised() -> None:
    server = script(said(task("failed")), said(task("succeeded")))
    failed = server.run(calls.get(TASK_ID, wait_seconds=0), left=1)
    succeeded = server.run(calls.get(TASK_ID, wait_seconds=0))

    with pytest.raises(TaskFailed) as caught:
        failed.raise_for_failure()

    assert isinstance(caught.value.task, Task)
    assert str(caught.value) == (
        f"task {TASK_ID} failed in step 2 (math): TOOL_ERROR, MATH_DOMAIN: division by zero"
    )
    assert succeeded.raise_for_failure() is succeeded


def test_the_key_is_not_shown() -> None:
    request = calls.request("GET", "/x")

    assert KEY not in repr(request)
    assert KEY not in repr(calls)

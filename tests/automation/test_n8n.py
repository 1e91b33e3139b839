"""The workflows of examples/n8n, in a real n8n, against a whole Pawl.

A proxy between them notes what n8n sends. n8n is large and slow to install: `make test-n8n`.
"""

from __future__ import annotations

import json
import re
from typing import Any

import httpx2
import pytest

from tests.automation.conftest import Automation
from tests.automation.n8n import Workflow, insert_before, node, workflow
from tests.e2e.tasks import FAILING
from tests.recording_proxy import Break, Refusal
from tests.waiting import eventually

pytestmark = [pytest.mark.n8n, pytest.mark.timeout(300)]

PLAIN = "submit-and-poll"
HEEDING = "submit-and-poll-with-refusals"
SLOW: dict[str, Any] = {
    "task_definition": {},
    "plan": {"steps": [{"step_index": 1, "tool": "wait", "input": {"seconds": 3}}]},
}
TOO_MANY = Refusal(
    status=429,
    headers={"Retry-After": "3"},
    body={"status": 429, "code": "rate_limited", "detail": "too many requests"},
)
AWAY = Refusal(
    status=503,
    headers={"Retry-After": "3"},
    body={"status": 503, "code": "unavailable", "detail": "a part of Pawl cannot be reached"},
)
ENDED_KEY = Refusal(status=401, body={"status": 401, "detail": "the key has been revoked"})
POSTED, LOOKED, TRACED = "POST execute 200", "GET task 200", "GET trace 200"


def plain(body: object = None, **submit: object) -> Workflow:
    """The contract's workflow, perhaps with another body, and options on its node Submit."""
    made = workflow(PLAIN)
    node(made, "Submit").update(submit)
    if body is not None:
        node(made, "Submit")["parameters"]["jsonBody"] = json.dumps(body)
    return made


def heeding(body: object = None) -> Workflow:
    """The workflow that heeds refusals, perhaps with another body."""
    made = workflow(HEEDING)
    if body is not None:
        fields = node(made, "Task")["parameters"]["assignments"]["assignments"]
        [field] = [one for one in fields if one["name"] == "body"]
        field["value"] = json.dumps(body)
    return made


def keys(automation: Automation) -> list[str]:
    return [seen.headers["idempotency-key"] for seen in automation.proxy.of("POST")]


@pytest.mark.parametrize("name", [PLAIN, HEEDING])
def test_a_workflow_as_it_stands_submits_once_and_ends_with_the_trace(
    automation: Automation, name: str
) -> None:
    done = automation.execute(workflow(name))

    assert done.exit_code == 0, done.output
    assert automation.calls[0] == POSTED
    assert automation.calls[-2:] == [LOOKED, TRACED]
    [task] = automation.tasks
    trace = done.result["trace"] if name == HEEDING else done.result
    assert (trace["task_id"], trace["status"]) == (task["task_id"], "succeeded")
    assert trace["summary"]["task_hash"]


@pytest.mark.parametrize("make", [plain, heeding])
def test_the_loop_goes_on_until_the_task_has_ended(automation: Automation, make: Any) -> None:
    done = automation.execute(make(SLOW))

    assert done.exit_code == 0, done.output
    assert automation.calls.count(POSTED) == 1
    assert automation.calls.count(LOOKED) >= 2
    assert [task["status"] for task in automation.tasks] == ["succeeded"]


def test_each_execution_has_an_idempotency_key_of_its_own(automation: Automation) -> None:
    automation.execute(plain())
    automation.execute(plain())

    first, second = keys(automation)
    form = re.compile(r"n8n-pawlSubmitPoll01-(\d+)")
    numbers = [int(found[1]) for key in (first, second) if (found := form.fullmatch(key))]
    assert len(numbers) == 2
    assert numbers[0] < numbers[1]
    assert len(automation.tasks) == 2


def test_n8n_accepts_html_and_is_answered_json(automation: Automation) -> None:
    automation.execute(plain())

    accepted = {seen.headers["accept"] for seen in automation.proxy.seen}
    assert all("text/html" in accept for accept in accepted)
    assert {seen.content_type for seen in automation.proxy.seen} == {"application/json"}


def test_the_body_arrives_as_the_workflow_has_it(automation: Automation) -> None:
    automation.execute(workflow(HEEDING))

    [posted] = automation.proxy.of("POST")
    assert posted.headers["content-type"] == "application/json"
    assert posted.json == {
        "task_definition": {"topic": "Summarize weekly release notes"},
        "max_steps": 12,
        "timeout_seconds": 45,
    }


def test_429_ends_the_plain_workflow(automation: Automation) -> None:
    automation.proxy.hurt("POST", TOO_MANY)

    done = automation.execute(plain())

    assert done.exit_code != 0
    assert automation.calls == ["POST execute 429"]


def test_retry_on_fail_in_the_plain_workflow_posts_three_times_and_makes_one_task(
    automation: Automation,
) -> None:
    done = automation.execute(plain(retryOnFail=True, maxTries=3, waitBetweenTries=100))

    assert done.exit_code == 0, done.output
    assert automation.calls.count(POSTED) == 3
    assert len(set(keys(automation))) == 1
    assert len(automation.tasks) == 1


def test_429_and_503_are_waited_out_where_refusals_are_heeded(automation: Automation) -> None:
    automation.proxy.hurt("POST", TOO_MANY, AWAY)
    automation.proxy.hurt("GET", TOO_MANY)

    done = automation.execute(heeding())

    assert done.exit_code == 0, done.output
    refused = ["POST execute 429", "POST execute 503"]
    assert automation.calls[:4] == [*refused, POSTED, "GET task 429"]
    assert automation.calls[-2:] == [LOOKED, TRACED]
    assert all(3 <= pause < 5 for pause in automation.proxy.pauses("POST"))
    assert automation.proxy.pauses("GET")[0] >= 3
    assert len(set(keys(automation))) == 1
    assert len(automation.tasks) == 1


def test_429_until_next_month_is_not_waited_for(automation: Automation) -> None:
    body = {"status": 429, "code": "monthly_requests_exceeded", "detail": "used up"}
    month = Refusal(status=429, headers={"Retry-After": "172800"}, body=body)
    automation.proxy.hurt("POST", month)

    done = automation.execute(heeding())

    assert done.exit_code != 0
    assert "Pawl refused, HTTP 429: used up" in done.output
    assert automation.calls == ["POST execute 429"]


def test_an_answer_that_is_lost_is_asked_for_again_and_makes_no_second_task(
    automation: Automation,
) -> None:
    automation.proxy.hurt("POST", Break.AFTER_PAWL)

    done = automation.execute(heeding())

    assert done.exit_code == 0, done.output
    assert automation.calls[:2] == ["POST execute nothing", POSTED]
    assert len(set(keys(automation))) == 1
    assert len(automation.tasks) == 1


def test_success_with_error_null_is_not_retried_where_refusals_are_heeded(
    automation: Automation,
) -> None:
    made = heeding()

    done = automation.execute(made)

    assert node(made, "Submit")["retryOnFail"] is True
    assert done.exit_code == 0, done.output
    assert automation.calls.count(POSTED) == 1


def test_a_failed_task_takes_the_branch_for_it_with_its_code(automation: Automation) -> None:
    done = automation.execute(heeding(FAILING))

    assert done.exit_code != 0
    [task] = automation.tasks
    assert f"Task {task['task_id']} failed: {task['failure']['code']}" in done.output
    assert automation.calls.count(POSTED) == 1
    assert automation.calls[-2:] == [LOOKED, TRACED]


def test_a_refused_task_ends_the_workflow_with_what_pawl_says(automation: Automation) -> None:
    done = automation.execute(heeding({"task_definition": {}, "max_stepz": 3}))

    assert done.exit_code != 0
    assert "Pawl refused, HTTP 422: " in done.output
    assert automation.calls == ["POST execute 422"]
    assert automation.tasks == []


def test_a_key_that_ends_meanwhile_ends_the_loop(automation: Automation) -> None:
    automation.proxy.hurt("GET", ENDED_KEY)

    done = automation.execute(heeding())

    assert done.exit_code != 0
    assert "Pawl refused, HTTP 401: the key has been revoked" in done.output
    assert automation.calls == [POSTED, "GET task 401"]


async def test_a_webhook_of_a_running_n8n_starts_the_workflow(automation: Automation) -> None:
    made = heeding() | {"id": "pawlByWebhook001"}
    path = {"path": "go", "httpMethod": "POST", "responseMode": "onReceived", "options": {}}
    kind = {"type": "n8n-nodes-base.webhook", "typeVersion": 2, "webhookId": "go"}
    node(made, "Start").update(kind, parameters=path)

    with automation.n8n.serving(made, pawl=automation.proxy.url) as server:
        async with httpx2.AsyncClient() as caller:

            async def started() -> bool:
                try:
                    answer = await caller.post(f"{server}/webhook/go")
                except httpx2.TransportError:
                    return False
                # While n8n begins, everything is answered 200 and a page that says so.
                return "Workflow was started" in answer.text

            await eventually(started, timeout=90)
        await eventually(lambda: automation.calls[-1:] == [TRACED], timeout=30)

    assert automation.calls.count(POSTED) == 1
    assert [task["status"] for task in automation.tasks] == ["succeeded"]


def test_several_items_are_one_task_each_and_keep_their_keys(automation: Automation) -> None:
    made = heeding()
    rows = {"assignments": [{"id": "r", "name": "rows", "value": "[1, 2]", "type": "array"}]}
    of_rows = {"mode": "manual", "assignments": rows, "options": {}}
    split = {"fieldToSplitOut": "rows", "options": {}}
    insert_before(made, "Task", "Rows", kind="set", version=3.4, parameters=of_rows)
    insert_before(made, "Task", "Split", kind="splitOut", version=1, parameters=split)
    automation.proxy.hurt("POST", TOO_MANY)

    done = automation.execute(made)

    assert done.exit_code == 0, done.output
    posted = keys(automation)
    assert sorted(key[-2:] for key in set(posted)) == ["-0", "-1"]
    assert len(posted) == 3
    assert [task["status"] for task in automation.tasks] == ["succeeded"] * 2


def test_the_key_may_come_from_the_environment(automation: Automation) -> None:
    made = plain()
    for name in ("Submit", "Look", "Trace"):
        fields = node(made, name)["parameters"]
        fields["authentication"] = "none"
        headers = fields.setdefault("headerParameters", {"parameters": []})["parameters"]
        headers.append({"name": "Authorization", "value": "=Bearer {{ $env.PAWL_API_KEY }}"})
        fields["sendHeaders"] = True

    done = automation.execute(made, key=automation.client.server.api_key)

    assert done.exit_code == 0, done.output
    assert [task["status"] for task in automation.tasks] == ["succeeded"]

"""Turns a case into a request, and checks what comes back."""

from __future__ import annotations

import json
import re
from typing import Any

from libs.core.errors import PawlError
from libs.core.ids import new_id
from tests.hostile.case_files import Case, built
from tests.hostile.egress_attacks import attack_in_process
from tests.hostile.many import runner_of
from tests.hostile.target import EXECUTE, Target
from tests.hostile.wire import Answer, request

TASK_WAIT_SECONDS = 10
ANSWER_MS = 1000
STEP_CODES = {"INPUT_INVALID": "INPUT_SCHEMA"}
"""Words of the cases → codes and reasons of failures; those that are the same are left out."""
LEAKS = (b"Traceback", b'File "', b"psycopg", b"SELECT ", b"INSERT ", b"site-packages")
FILE_NAME = re.compile(rb"\.py\b")
"""Of source; python_sandbox's version has .py too, and goes on with digits."""
PROBLEM = ["type", "title", "status", "detail", "code", "request_id", "errors"]
PLAN_STEP: dict[str, Any] = {"tool": "math", "input": {"expression": "1+1"}}

RUNNABLE = (
    *("d1.execute", "d1.get", "d1.trace", "d1+d3.create", "d2.cancel", "key.revoke"),
    *("tool.math", "tool.http_request", "grpc.GetTask"),
)
SANDBOX_OP = "tool.python_sandbox"
"""These run on stacks of their own, which have a sandbox."""


async def attack(case: Case, target: Target) -> None:
    """Run one case; AssertionError when it is not answered as expected."""
    before, hits = await target.tasks(), target.canary.hits
    if (run := runner_of(case)) is not None:
        await run(case, target)
    elif case.op == "grpc.GetTask":
        await _over_grpc(case, target)
    elif "dns" in case.input or "env" in case.input:
        await attack_in_process(case, target.canary)
    elif _is_tool(case) and "status" not in case.expect:
        await _run_tool(case, target)
    else:
        answer = await target.wire.send(_raw(case, target))
        await _check_answer(case, answer, target)
        if not 200 <= answer.status < 300:
            assert await target.tasks() == before, "a refusal left rows behind"
        if "rows_created" in case.expect:
            assert await target.tasks() - before == case.expect["rows_created"]
    assert target.canary.hits - hits == 0
    health = await target.wire.send(request("GET", "/healthz", []))
    assert health.status == 200


def _raw(case: Case, target: Target) -> bytes:
    if "raw_request" in case.input:
        return bytes(case.input["raw_request"], "latin-1")
    body = _body(case, target)
    return request(
        case.input.get("method", "POST" if _is_execute(case) else "GET"),
        _target_of(case, target),
        _headers(case, target),
        body,
    )


def _is_execute(case: Case) -> bool:
    return case.op == "d1.execute" or _is_tool(case)


def _is_tool(case: Case) -> bool:
    return case.op.startswith("tool.")


def _target_of(case: Case, target: Target) -> str:
    if "path_raw" in case.input:
        return str(built(case.input["path_raw"], names=target.names))
    if _is_execute(case):
        path = EXECUTE
    else:
        task_id = built(case.input["id"], names=target.names)
        path = f"/api/v1/tasks/{task_id}" + ("/trace" if case.op == "d1.trace" else "")
    query = case.input.get("query", "")
    return f"{path}?{query}" if query else path


def _headers(case: Case, target: Target) -> list[tuple[str, str]]:
    headers: dict[str, str] = {"Connection": "close"} if "raw" not in case.input else {}
    if not case.input.get("no_auth"):
        key = built(case.input.get("auth", "$KEY"), names=target.names)
        headers["Authorization"] = f"Bearer {key}"
    if _is_execute(case):
        headers["Content-Type"] = "application/json"
    headers |= built(case.input.get("headers", {}), names=target.names)
    listed = [(name, value) for name, value in case.input.get("headers_list", [])]
    return [*headers.items(), *listed]


def _body(case: Case, target: Target) -> bytes | None:
    if not _is_execute(case):
        return None
    if "raw" in case.input:
        raw = built(case.input["raw"], names=target.names)
        return raw if isinstance(raw, bytes) else raw.encode()
    body = built(case.input.get("body", {}), names=target.names)
    if _is_tool(case):
        body = _one_step(case, target)
    if "big_object_keys" in case.input:
        many = {f"{number:x}": 0 for number in range(case.input["big_object_keys"])}
        body["task_definition"] = many
    if "plan_steps" in case.input:
        steps = [{"step_index": n + 1, **PLAN_STEP} for n in range(case.input["plan_steps"])]
        body = {
            "task_definition": {"topic": "x"},
            "max_steps": case.input["max_steps"],
            "plan": {"steps": steps},
        }
    return json.dumps(body, separators=(",", ":")).encode()


def _one_step(case: Case, target: Target) -> dict[str, Any]:
    step_input = built(case.input["input"], names=target.names)
    step = {"step_index": 1, "tool": case.op.removeprefix("tool."), "input": step_input}
    limits = {"limits": case.input["limits"]} if "limits" in case.input else {}
    return {"task_definition": {}, "plan": {"steps": [step], **limits}}


async def _check_answer(case: Case, answer: Answer, target: Target) -> None:
    expect = case.expect
    if "task" in expect:
        assert answer.status == 200, answer
        await _check_task(case, answer.json["task_id"], target)
        return
    allowed = expect["status"] if isinstance(expect["status"], list) else [expect["status"]]
    assert answer.status in allowed, answer
    assert answer.status not in {500, 502}
    assert answer.seconds * 1000 <= expect.get("max_ms", ANSWER_MS)
    for leak in (*LEAKS, target.key.encode(), b"evil.example"):
        assert leak not in answer.body
    assert FILE_NAME.search(answer.body) is None
    if expect.get("close"):
        assert answer.closed
    if answer.headers.get("content-type") == "application/problem+json":
        _check_problem(case, answer)
    elif answer.status >= 400:
        # Only what is not HTTP at all is refused by the server itself, in plain text.
        assert "raw_request" in case.input or case.input.get("method") == "CONNECT", answer
    if case.input.get("auth") == "$KEY_B":
        await _check_same_as_unknown(answer, target)


def _check_problem(case: Case, answer: Answer) -> None:
    problem = answer.json
    assert list(problem) == PROBLEM
    assert problem["status"] == answer.status
    if "code" in case.expect:
        said = {problem["code"], *(error["code"] for error in problem["errors"])}
        assert case.expect["code"] in said, problem
    if "loc" in case.expect:
        assert case.expect["loc"] in {error["field"] for error in problem["errors"]}
    for name, value in case.expect.get("header", {}).items():
        assert value in answer.headers[name.lower()]


async def _check_same_as_unknown(answer: Answer, target: Target) -> None:
    key = target.names["KEY_B"]
    unknown = await target.call("GET", f"/api/v1/tasks/{new_id()}", key=key)
    assert answer.json | {"request_id": ""} == unknown.json | {"request_id": ""}


async def _run_tool(case: Case, target: Target) -> None:
    body = _one_step(case, target)
    runs = 2 if case.expect.get("same_hash_on_rerun") else 1
    traces = []
    for _ in range(runs):
        answer = await target.call("POST", EXECUTE, key=target.key, body=body)
        assert answer.status == 200, answer
        traces.append(await _check_task(case, answer.json["task_id"], target))
    assert len({json.dumps(trace["summary"]["step_hashes"]) for trace in traces}) == 1
    assert len({trace["summary"]["task_hash"] for trace in traces}) == 1


async def _check_task(case: Case, task_id: str, target: Target) -> Any:
    path = f"/api/v1/tasks/{task_id}"
    task = await target.call("GET", f"{path}?wait={TASK_WAIT_SECONDS}", key=target.key)
    trace = (await target.call("GET", f"{path}/trace", key=target.key)).json
    assert task.json["status"] == case.expect["task"], task.json
    if "step_code" in case.expect:
        words = case.expect["step_code"]
        allowed = {STEP_CODES.get(w, w) for w in ([words] if isinstance(words, str) else words)}
        failure = task.json["failure"]
        assert allowed & {failure["code"], failure["reason"]}, failure
    if "result" in case.expect:
        assert json.dumps(task.json["result"]["result"]) == case.expect["result"]
    if "stdout" in case.expect:
        assert task.json["result"]["stdout"] == case.expect["stdout"]
    if "max_ms" in case.expect:
        assert trace["steps"][0]["duration_ms"] <= case.expect["max_ms"]
    return trace


async def _over_grpc(case: Case, target: Target) -> None:
    key, task_id = (built(case.input[name], names=target.names) for name in ("auth", "id"))
    refusals = []
    for wanted in (task_id, str(new_id())):
        try:
            await target.get_task_over_grpc(wanted, key=key)
        except PawlError as error:
            refusals.append((error.code, error.message))
    assert len(refusals) == 2
    assert refusals[0] == refusals[1]
    assert refusals[0][0] == case.expect["code"]

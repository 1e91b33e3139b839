"""`pawl replay` and `pawl verify --against`: what is printed, and the exit code."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from tests.recorded_traces import AT, PLAN, TASK_ID, make_trace, rehash
from tests.unit.cli.conftest import Pawl
from tests.unit.cli.fake_server import FakeServer

ORIGINAL = "0198c0de-7000-7abc-8def-000000000001"
_REPLAY = f"POST /api/v1/tasks/{ORIGINAL}/replay"
_TASK = f"GET /api/v1/tasks/{TASK_ID}"
MATCHING = {"of_task_id": ORIGINAL, "mode": "live", "matches": True, "first_divergence": None}


def differing(original: Any, replayed: Any, *, step: int | None = 2) -> dict[str, Any]:
    field = "output" if step else "state"
    first = {"step_index": step, "field": field, "original": original, "replayed": replayed}
    return MATCHING | {"matches": False, "first_divergence": first}


def serve(fake: FakeServer, replay: dict[str, Any], *, end: str = "succeeded") -> None:
    """A replay that runs to its end."""
    failure = {"code": "TOOL_ERROR", "message": "it broke", "index": 2, "step": "math"}
    task = {
        "task_id": TASK_ID,
        "status": end,
        "created_at": AT,
        "plan": PLAN.as_json(),
        "failure": failure if end == "failed" else None,
    }
    fake.json(_REPLAY, {"task_id": TASK_ID, "status": "queued"})
    fake.json(_TASK, task)
    fake.events(
        f"{_TASK}/events",
        (1, "task.status_transition", {"from": "running", "to": end, "at": AT}),
    )
    trace = make_trace() | {"replay_of_task_id": ORIGINAL, "replay": replay}
    fake.json(f"{_TASK}/trace", trace)


def test_replay_follows_and_says_that_the_hashes_match(pawl: Pawl, fake: FakeServer) -> None:
    serve(fake, MATCHING)

    done = pawl("replay", ORIGINAL)

    assert (done.code, done.out) == (0, "hashes match\n")
    assert f"task {TASK_ID}" in done.err
    assert "→ succeeded" in done.err
    assert fake.asked[0].body == {"mode": "live"}


def test_replay_names_the_step_the_field_and_both_values(pawl: Pawl, fake: FakeServer) -> None:
    serve(fake, differing({"result": 2}, {"result": 3}))

    done = pawl("replay", ORIGINAL, "--mode", "recorded")

    assert done.code == 1
    assert fake.asked[0].body == {"mode": "recorded"}
    for words in ("step 2", "output", '{"result":2}', '{"result":3}'):
        assert words in done.out


def test_replay_shows_of_large_values_what_differs(pawl: Pawl, fake: FakeServer) -> None:
    large = {
        "$truncated": True,
        "size_bytes": 5000,
        "sha256": "ab" * 32,
        "excerpt": "around",
        "excerpt_at": 17,
    }
    serve(fake, differing(large, {"$truncated": True}))

    done = pawl("replay", ORIGINAL)

    assert "…around… (from character 17 of 5000 bytes, sha256 abab" in done.out
    assert '{"$truncated":true}' in done.out


def test_replay_of_a_failed_task_can_match(pawl: Pawl, fake: FakeServer) -> None:
    serve(fake, MATCHING, end="failed")

    done = pawl("replay", ORIGINAL)

    assert (done.code, done.out) == (0, "hashes match\n")
    assert "failed in step 2 (math): TOOL_ERROR: it broke" in done.err


def test_replay_says_when_the_whole_task_differs(pawl: Pawl, fake: FakeServer) -> None:
    serve(fake, differing("succeeded", "cancelled", step=None))

    done = pawl("replay", ORIGINAL)

    assert done.code == 1
    assert "the whole task" in done.out


def test_replay_whose_original_is_gone_does_not_claim_to_match(
    pawl: Pawl, fake: FakeServer
) -> None:
    serve(fake, MATCHING | {"matches": None})

    done = pawl("replay", ORIGINAL)

    assert done.code == 1
    assert "its original is gone" in done.out


def test_replay_prints_json_for_programs(pawl: Pawl, fake: FakeServer) -> None:
    serve(fake, differing(1, 2))

    done = pawl("replay", ORIGINAL, "--json")

    assert json.loads(done.out) == {
        "task_id": TASK_ID,
        "status": "succeeded",
        "replay": differing(1, 2),
    }
    assert (done.code, done.err) == (1, "")


def test_a_refused_replay_exits_2_with_the_servers_words(pawl: Pawl, fake: FakeServer) -> None:
    detail = "the task is running; only a task that has ended can be replayed"
    fake.json(_REPLAY, {"code": "conflict", "detail": detail}, status=409)

    done = pawl("replay", ORIGINAL)

    assert done.code == 2
    assert detail in done.err


def test_replay_refuses_an_unknown_mode_before_it_asks(pawl: Pawl, fake: FakeServer) -> None:
    done = pawl("replay", ORIGINAL, "--mode", "fast")

    assert done.code == 2
    assert fake.asked == []


@pytest.mark.parametrize(
    ("replay", "words"),
    [
        (MATCHING, "hashes match"),
        (differing(1, 2), "differs in step 2: output"),
        (differing(1, 2, step=None), "differs in the whole task: state"),
        (MATCHING | {"matches": None}, "nothing differs so far"),
    ],
)
def test_trace_says_what_a_replay_came_to(
    pawl: Pawl, fake: FakeServer, replay: dict[str, Any], words: str
) -> None:
    serve(fake, replay)

    done = pawl("trace", TASK_ID)

    assert done.code == 0
    assert words in done.out
    assert ("First divergence" in done.out) is (replay["first_divergence"] is not None)


def _files(tmp_path: Path, **traces: Any) -> list[str]:
    paths = []
    for name, trace in traces.items():
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(trace), encoding="utf-8")
        paths.append(str(path))
    return paths


def changed_trace() -> dict[str, Any]:
    """An honest trace of a run whose second step came to something else."""
    trace = make_trace()
    for part in (trace["verification"]["steps"], trace["steps"]):
        part[1]["output"] = {"result": 5}
        part[2] |= {
            "resolved_input" if "tool" in part[2] else "input": {"query": "r", "data": {"r": 5}}
        }
    rehash(trace, from_step=2)
    return trace


def test_verify_against_matches_a_run_with_its_like(pawl: Pawl, tmp_path: Path) -> None:
    other = copy.deepcopy(make_trace()) | {"task_id": ORIGINAL}

    done = pawl(
        "verify",
        *_files(tmp_path, replay=other),
        "--against",
        *_files(tmp_path, original=make_trace()),
    )

    assert done.code == 0
    assert done.out.count("Every hash matches.") == 2
    assert done.out.endswith("hashes match\n")


def test_verify_against_names_what_differs(pawl: Pawl, tmp_path: Path) -> None:
    one, other = _files(tmp_path, replay=changed_trace(), original=make_trace())

    done = pawl("verify", one, "--against", other, "--json")

    assert done.code == 1
    said = json.loads(done.out)
    assert (said["trace"]["holds"], said["against"]["holds"]) == (True, True)
    assert said["comparison"] == {
        "matches": False,
        "first_divergence": {
            "step_index": 2,
            "field": "output",
            "original": {"result": 4},
            "replayed": {"result": 5},
        },
    }


@pytest.mark.parametrize("text", ["{}", "no JSON", '{"verification": NaN}'])
def test_verify_against_says_which_file_is_no_trace(pawl: Pawl, tmp_path: Path, text: str) -> None:
    other = tmp_path / "other.json"
    other.write_text(text)

    done = pawl("verify", *_files(tmp_path, replay=make_trace()), "--against", str(other))

    assert done.code == 2
    assert f"pawl: {other}: " in done.err


def test_verify_against_compares_nothing_that_does_not_hold(pawl: Pawl, tmp_path: Path) -> None:
    forged = make_trace()
    forged["verification"]["steps"][0]["output"] = {"result": 9}

    done = pawl(
        "verify",
        *_files(tmp_path, forged=forged),
        "--against",
        *_files(tmp_path, original=make_trace()),
    )

    assert done.code == 1
    assert "step 1 (math) differs:" in done.out
    assert "First divergence" not in done.out
    assert "hashes match" not in done.out

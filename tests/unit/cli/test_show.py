"""The commands that show things: trace, events, tenants, keys."""

from __future__ import annotations

import json

import pytest

from tests.recorded_traces import AT, EVENTS, TASK_ID, make_trace, make_unplanned_trace
from tests.unit.cli.conftest import Pawl
from tests.unit.cli.fake_server import FakeServer

_TRACE = f"GET /api/v1/tasks/{TASK_ID}/trace"
_KEY = {
    "id": "0198c0de-7000-7abc-8def-00000000000a",
    "display": "pawl_live_…9xQ2",
    "mode": "live",
    "name": "ci",
    "created_at": AT,
    "expires_at": None,
    "revoked_at": None,
}


def test_trace_shows_head_plan_steps_events_and_hashes(pawl: Pawl, fake: FakeServer) -> None:
    trace = make_trace(state="failed", failed_step=2, failure_code="TOOL_ERROR")
    fake.json(_TRACE, trace)

    done = pawl("trace", TASK_ID)

    assert done.code == 0
    for words in ("Task", "Plan", "Steps", "Events", "Hashes (pawl:v1)", "TOOL_ERROR", "1 failed"):
        assert words in done.out
    assert '{"$ref":"steps.1.output.result"}' in done.out
    assert "nothing → created" in done.out
    assert trace["summary"]["step_hashes"][1] in done.out


def test_trace_of_a_task_without_plan_is_shown_too(pawl: Pawl, fake: FakeServer) -> None:
    fake.json(_TRACE, make_unplanned_trace())

    done = pawl("trace", TASK_ID)

    assert (done.code, "Plan" in done.out, "PLANNER_UNAVAILABLE" in done.out) == (0, False, True)


def test_trace_with_json_is_the_trace_itself(pawl: Pawl, fake: FakeServer) -> None:
    fake.json(_TRACE, make_trace())

    assert json.loads(pawl("trace", TASK_ID, "--json").out) == make_trace()


def test_an_unknown_task_exits_2(pawl: Pawl) -> None:
    done = pawl("trace", "../../etc")

    assert (done.code, "404 (not_found)" in done.err) == (2, True)


def test_a_task_id_stays_one_segment_of_the_path(pawl: Pawl, fake: FakeServer) -> None:
    pawl("trace", "../v1/keys?x#y")

    assert fake.asked[0].path == "/api/v1/tasks/..%2Fv1%2Fkeys%3Fx%23y/trace"


def test_events_prints_what_is_kept(pawl: Pawl, fake: FakeServer) -> None:
    fake.events("GET /v1/events", (9, "task.step_started", EVENTS[1]["payload"]))  # type: ignore[arg-type]  # a dict

    done = pawl("events")

    assert done.out == "11:18:02.991 9 step_started step_index=1 tool=math\n"
    assert fake.asked[0].headers["last-event-id"] == "0"


def test_events_follow_starts_with_new_ones(pawl: Pawl, fake: FakeServer) -> None:
    fake.events("GET /v1/events")
    fake.json("GET /v1/events", {"code": "unauthenticated"}, status=401)

    pawl("events", "--follow")

    assert "last-event-id" not in fake.asked[0].headers


def test_events_of_a_task_come_from_its_trace_or_its_stream(pawl: Pawl, fake: FakeServer) -> None:
    fake.json(_TRACE, make_trace())
    last = (1, "task.status_transition", {"from": "running", "to": "failed", "at": AT})
    fake.events(f"GET /api/v1/tasks/{TASK_ID}/events", last)

    kept = pawl("events", "--task", TASK_ID, "--json")
    followed = pawl("events", "--task", TASK_ID, "--follow", "--json")

    assert [json.loads(line) for line in kept.out.splitlines()] == EVENTS
    assert json.loads(followed.out)["payload"]["to"] == "failed"


def test_tenants_are_made_and_listed(pawl: Pawl, fake: FakeServer) -> None:
    tenant = {"id": "t1", "name": "acme", "tier": "pro", "created_at": AT}
    fake.json("POST /v1/tenants", tenant, status=201)
    fake.json("GET /v1/tenants", {"data": [tenant], "next_cursor": None})

    made = pawl("tenants", "create", "acme", "--tier", "pro", "--email", "a@b.example")
    listed = pawl("tenants", "list")

    assert fake.asked[0].body == {"name": "acme", "tier": "pro", "email": "a@b.example"}
    assert "tenant acme (pro) made: t1" in made.out
    assert "acme" in listed.out
    assert json.loads(pawl("tenants", "list", "--json").out) == [tenant]


def test_a_key_is_printed_alone_so_that_it_can_be_piped(pawl: Pawl, fake: FakeServer) -> None:
    fake.json("POST /v1/keys", _KEY | {"key": "pawl_live_secret"}, status=201)

    made = pawl("keys", "create", "--tenant", "acme", "--mode", "test", "--name", "ci")
    as_json = pawl("keys", "create", "--tenant", "acme", "--json")

    assert fake.asked[0].body == {"mode": "test", "tenant": "acme", "name": "ci"}
    assert made.out == "pawl_live_secret\n"
    assert json.loads(as_json.out)["key"] == "pawl_live_secret"


def test_keys_are_listed_and_revoked(pawl: Pawl, fake: FakeServer) -> None:
    revoked = _KEY | {"revoked_at": AT}
    fake.json("GET /v1/keys?tenant=acme", {"data": [_KEY, revoked], "next_cursor": None})
    fake.json(f"DELETE /v1/keys/{_KEY['id']}", revoked)

    listed = pawl("keys", "list", "--tenant", "acme")
    gone = pawl("keys", "revoke", str(_KEY["id"]))

    assert "valid" in listed.out
    assert "revoked 2026" in listed.out
    assert "is revoked" in gone.out


def test_lists_keep_ids_in_one_piece_in_80_columns(
    pawl: Pawl, fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    tenant = {"id": _KEY["id"], "name": "n" * 64, "tier": "enterprise", "created_at": AT}
    revoked = _KEY | {"name": "n" * 64, "revoked_at": AT}
    fake.json("GET /v1/keys", {"data": [revoked], "next_cursor": None})
    fake.json("GET /v1/tenants", {"data": [tenant], "next_cursor": None})

    keys, tenants = pawl("keys", "list").out, pawl("tenants", "list").out

    for listed in (keys, tenants):
        assert str(_KEY["id"]) in listed
        assert max(map(len, listed.splitlines())) <= 80
        # Nothing is cut off at the right.
        assert {line[-1] for line in listed.splitlines()[1:]} == set("┓┃┩│┘")
    assert str(_KEY["display"]) in keys


def test_events_replay_asks_for_a_task_or_for_the_letters(pawl: Pawl, fake: FakeServer) -> None:
    fake.json("POST /v1/events/replay", {"events": 12, "letters": 3, "unknown_letters": 1})

    of_task = pawl("events", "replay", "--task", TASK_ID)
    of_letters = pawl("events", "replay", "--from-dead-letters")
    as_json = pawl("events", "replay", "--from-dead-letters", "--json")

    assert [one.body for one in fake.asked[:2]] == [
        {"task_id": TASK_ID},
        {"from_dead_letters": True},
    ]
    assert of_task.out == "12 events are published once more\n"
    assert "3 dead letters read; 1 of them" in of_letters.out
    assert json.loads(as_json.out)["letters"] == 3


@pytest.mark.parametrize("args", [(), ("--task", TASK_ID, "--from-dead-letters")])
def test_events_replay_wants_exactly_one_of_the_two(pawl: Pawl, args: tuple[str, ...]) -> None:
    done = pawl("events", "replay", *args)

    assert (done.code, "either --task ID or --from-dead-letters" in done.err) == (2, True)


def test_topics_apply_says_which_setting_is_missing(
    pawl: Pawl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAWL_BUS", "kafka")
    monkeypatch.delenv("PAWL_KAFKA_BOOTSTRAP", raising=False)
    unset = pawl("topics", "apply")
    monkeypatch.setenv("PAWL_KAFKA_BOOTSTRAP", "127.0.0.1:1")
    away = pawl("topics", "apply")
    monkeypatch.setenv("PAWL_BUS", "postgres")
    none = pawl("topics", "apply")

    assert (unset.code, "PAWL_KAFKA_BOOTSTRAP is not set" in unset.err) == (2, True)
    assert (away.code, "Kafka is away" in away.out) == (1, True)
    assert (none.code, "made by `pawl migrate`" in none.out) == (0, True)


def test_help_names_every_command(pawl: Pawl) -> None:
    done = pawl("--help")

    assert done.code == 0
    for command in (
        "run",
        "trace",
        "verify",
        "events",
        "topics",
        "demo",
        "tenants",
        "keys",
        "users",
        "audit",
    ):
        assert f" {command} " in done.out

"""The commands about accounts: what they send, and what they print."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.cli.conftest import Pawl
from tests.unit.cli.fake_server import FakeServer

AT = "2026-02-27T11:18:02.991451+00:00"
KEY_ID = "0198c0de-7000-7abc-8def-00000000000a"
AGENT = "0199d2a0-4c11-7a3b-9d52-8b6f0e1c7a55"
KEY: dict[str, Any] = {
    "id": KEY_ID,
    "display": "pawl_live_...9xQ2",
    "mode": "live",
    "name": "ci",
    "scopes": ["tasks:read", "tasks:write"],
    "user_number": 42,
    "allowed_agent_ids": None,
    "allowed_task_ids": None,
    "created_at": AT,
    "last_used_at": None,
    "expires_at": None,
    "revoked_at": None,
    "replaced_by_id": None,
}
USER: dict[str, Any] = {
    "number": 42,
    "email": "ann@example.org",
    "role": "member",
    "created_at": AT,
}
PEOPLE = "GET /v1/users?limit=200"


def listed(*items: dict[str, Any]) -> dict[str, Any]:
    return {"data": list(items), "next_cursor": None}


def test_key_is_asked_for_with_every_option(pawl: Pawl, fake: FakeServer) -> None:
    fake.json("POST /v1/keys", KEY | {"key": "pawl_live_secret"}, status=201)
    options = ("--tenant", "acme", "--mode", "test", "--name", "ci", "--prefix", "atx")
    bounds = ("--scope", "tasks:read", "--scope", "keys:read", "--expires", "2027-01-01T00:00:00Z")
    lists = ("--agent", AGENT, "--definition", KEY_ID, "--user", "42")

    made = pawl("keys", "create", *options, *bounds, *lists)

    assert (made.code, made.out) == (0, "pawl_live_secret\n")
    assert fake.asked[0].body == {
        "tenant": "acme",
        "mode": "test",
        "name": "ci",
        "prefix": "atx",
        "scopes": ["tasks:read", "keys:read"],
        "expires_at": "2027-01-01T00:00:00Z",
        "allowed_agent_ids": [AGENT],
        "allowed_task_ids": [KEY_ID],
        "user_number": 42,
    }


def test_key_is_asked_for_with_nothing_that_was_not_said(pawl: Pawl, fake: FakeServer) -> None:
    fake.json("POST /v1/keys", KEY | {"key": "pawl_live_secret"}, status=201)

    pawl("keys", "create")

    assert fake.asked[0].body == {"mode": "live"}


def test_user_may_be_named_by_address(pawl: Pawl, fake: FakeServer) -> None:
    fake.json(f"{PEOPLE.replace('?', '?tenant=acme&')}", listed(USER))
    fake.json("POST /v1/keys", KEY | {"key": "pawl_live_secret"}, status=201)

    done = pawl("keys", "create", "--tenant", "acme", "--user", "Ann@Example.org")

    assert done.code == 0
    assert fake.asked[-1].body["user_number"] == 42


def test_key_is_rotated_and_its_secret_printed_alone(pawl: Pawl, fake: FakeServer) -> None:
    rotated = KEY | {"key": "pawl_live_new", "replaced": KEY | {"expires_at": AT}}
    fake.json(f"POST /v1/keys/{KEY_ID}/rotate", rotated, status=201)

    plain = pawl("keys", "rotate", KEY_ID)
    exact = pawl("keys", "rotate", KEY_ID, "--overlap", "0", "--expires", AT, "--json")

    assert (plain.code, plain.out) == (0, "pawl_live_new\n")
    assert AT in plain.err
    assert json.loads(exact.out) == rotated
    assert [asked.body for asked in fake.asked] == [
        {},
        {"overlap_seconds": 0, "expires_at": AT},
    ]


@pytest.mark.parametrize(
    ("members", "standing"),
    [
        ({}, "valid"),
        ({"expires_at": "2999-01-01T00:00:00+00:00"}, "until 2999-01-01"),
        ({"expires_at": AT}, "ended 2026-02-27"),
        (
            {"expires_at": "2999-01-01T00:00:00+00:00", "replaced_by_id": AGENT},
            "rotated, until",
        ),
        ({"revoked_at": AT, "replaced_by_id": AGENT}, "revoked 2026-02-27"),
        ({"allowed_agent_ids": [AGENT], "allowed_task_ids": []}, "only 1 agent"),
        ({"scopes": ["keys:read", "keys:write", "operator"]}, "keys: read, write"),
        ({"last_used_at": "2026-03-01T00:00:00+00:00"}, "used 2026-03-01"),
    ],
)
def test_keys_are_listed_with_how_they_stand(
    pawl: Pawl, fake: FakeServer, members: dict[str, Any], standing: str
) -> None:
    fake.json("GET /v1/keys", listed(KEY | members))

    done = pawl("keys", "list")

    assert standing in done.out
    assert KEY_ID in done.out


def test_people_are_added_listed_changed_and_removed(pawl: Pawl, fake: FakeServer) -> None:
    fake.json("POST /v1/users", USER, status=201)
    fake.json(PEOPLE, listed(USER))
    fake.json("PATCH /v1/users/42", USER | {"role": "admin"})
    fake.json("DELETE /v1/users/42", USER | {"keys_revoked": 3})

    added = pawl("users", "add", "ann@example.org", "--role", "member")
    shown = pawl("users", "list")
    changed = pawl("users", "set-role", "ann@example.org", "admin")
    removed = pawl("users", "remove", "42")

    assert "user 42 (ann@example.org) is a member" in added.out
    assert "ann@example.org" in shown.out
    assert "is admin within 5 s" in changed.out
    assert "keys revoked: 3" in removed.out
    bodies = [asked.body for asked in fake.asked if asked.method in {"POST", "PATCH"}]
    assert bodies == [{"email": "ann@example.org", "role": "member"}, {"role": "admin"}]


@pytest.mark.parametrize("who", ["bo@example.org", "bo", "-1", "٤٢", "4 2"])
def test_nobody_is_changed_who_is_not_there(pawl: Pawl, fake: FakeServer, who: str) -> None:
    fake.json(PEOPLE, listed(USER))

    done = pawl("users", "remove", "--", who)

    assert (done.code, "pawl:" in done.err) == (2, True)
    assert not any(asked.method == "DELETE" for asked in fake.asked)


def test_tier_is_set(pawl: Pawl, fake: FakeServer) -> None:
    fake.json("PATCH /v1/tenants/acme", {"name": "acme", "tier": "pro"})

    done = pawl("tenants", "set-tier", "acme", "pro")

    assert (done.code, fake.asked[0].body) == (0, {"tier": "pro"})
    assert "acme is pro" in done.out


def test_name_stays_one_segment_of_the_path(pawl: Pawl, fake: FakeServer) -> None:
    pawl("tenants", "set-tier", "../keys?x", "pro")
    pawl("keys", "rotate", "../../x")

    assert [asked.path for asked in fake.asked] == [
        "/v1/tenants/..%2Fkeys%3Fx",
        "/v1/keys/..%2F..%2Fx/rotate",
    ]


def test_audit_log_is_shown_as_far_as_asked(pawl: Pawl, fake: FakeServer) -> None:
    line = {
        "id": 7,
        "at": AT,
        "actor_key_id": KEY_ID,
        "actor_user_number": 42,
        "action": "user.role_changed",
        "subject": "43",
        "details": {"role_before": "viewer\x1b[2J", "role_after": "member"},
    }
    by_installation = line | {"actor_key_id": None, "actor_user_number": None}
    page = {"data": [line, by_installation], "next_cursor": "more"}
    fake.json("GET /v1/audit?tenant=acme&limit=2", page)

    shown = pawl("audit", "--tenant", "acme", "--limit", "2")
    as_json = pawl("audit", "--tenant", "acme", "--limit", "2", "--json")

    for words in ("2026-02-27 11:18:02", "user 42", "user.role_changed", "the installation"):
        assert words in shown.out
    assert "\x1b[2J" not in shown.out
    assert json.loads(as_json.out) == [line, by_installation]
    assert len(fake.asked) == 2


@pytest.mark.parametrize(
    "command",
    [
        ("users", "add", "a@b.example", "--role", "viewer"),
        ("users", "list"),
        ("users", "set-role", "42", "viewer"),
        ("users", "remove", "42"),
        ("tenants", "set-tier", "acme", "pro"),
        ("keys", "rotate", KEY_ID),
        ("audit",),
    ],
)
def test_refusal_exits_2_and_says_why(pawl: Pawl, command: tuple[str, ...]) -> None:
    done = pawl(*command)

    assert (done.code, "404 (not_found)" in done.err, done.out) == (2, True, "")

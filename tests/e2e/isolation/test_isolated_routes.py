"""Every route against those who may not: nothing is told, nothing is changed."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
import pytest_asyncio

from gateway.app import create_app
from gateway.call import Gateway
from libs.cli.stack import Stack
from libs.core.api_key import make_key
from services.auth.scopes import GRANTABLE
from tests.e2e.isolation.account import Account, Answer, account, filled, unknown
from tests.e2e.isolation.routes import DETOURS, OPERATOR, ROUTES, Detour, Row
from tests.e2e.tasks import EXECUTE

pytestmark = pytest.mark.e2e

UNKNOWN = make_key(prefix="pawl", mode="live", random_chars=32 * "0")
READING = tuple(scope for scope in GRANTABLE if scope.endswith(":read"))
NEEDING_A_KEY = [row for row in ROUTES if row.scopes is not None]
NEEDING_A_SCOPE = [(row, scope) for row in NEEDING_A_KEY for scope in row.scopes or ()]
UNKNOWABLE = [d for d in DETOURS if len(d.kinds) == 1 and not d.kinds[0].endswith("_CURSOR")]
NAMING = [row for row in ROUTES if "$" in row.path]


@pytest_asyncio.fixture(scope="module")
async def mine(stack: Stack) -> AsyncIterator[Account]:
    """The account that others ask for. Only refused requests touch it."""
    async with account(stack) as made:
        for kind, path in (
            ("TASKS_CURSOR", "/api/v1/tasks"),
            ("KEYS_CURSOR", "/v1/keys"),
            ("USERS_CURSOR", "/v1/users"),
            ("AUDIT_CURSOR", "/v1/audit"),
        ):
            for kind_of_thing in ("KEY", "USER"):
                await made.fresh(kind_of_thing)
            page = await made.ask("GET", f"{path}?limit=1", key=made.owner)
            made.things[kind] = page.json["next_cursor"]
        yield made


async def sent(row: Row, whose: Account, *, key: str | None) -> Answer:
    """The answer to a request for things of an account."""
    path = await filled(whose, row.path)
    text = await filled(whose, json.dumps(row.body))
    return await whose.ask(row.method, path, key=key, body=json.loads(text), last_event_id="0")


def is_refused(answer: Answer, status: int, code: str) -> None:
    assert (answer.status, answer.json.get("code")) == (status, code), answer


def test_every_route_has_its_row() -> None:
    """Give a new route a row in routes.py; take out that of one which is gone."""
    gateway = cast("Gateway", SimpleNamespace(version="test"))
    served = {
        (method, getattr(route, "path", repr(route)))
        for route in _leaves(create_app(gateway).routes)
        for method in getattr(route, "methods", None) or ("ANY",)
    }

    assert {(row.method, row.template) for row in ROUTES} == served
    assert len({row.id for row in ROUTES}) == len(ROUTES)


@pytest.mark.parametrize("row", ROUTES, ids=lambda row: row.id)
async def test_own_key_is_answered(row: Row, spent: Account) -> None:
    """So the refusals below are of the key, not of the request."""
    key = spent.stack.ready.api_key if row.scopes == (OPERATOR,) else spent.owner

    answer = await sent(row, spent, key=None if row.scopes is None else key)

    assert answer.status == row.own, answer
    assert bool(spent.seen_in(answer.whole)) is row.shows


@pytest.mark.parametrize("row", ROUTES, ids=lambda row: row.id)
@pytest.mark.parametrize(
    "key", [None, "malformed", UNKNOWN.secret], ids=["none", "malformed", "unknown"]
)
async def test_without_a_good_key_nothing_is_told(row: Row, key: str | None, mine: Account) -> None:
    path, text = await filled(mine, row.path), await filled(mine, json.dumps(row.body))
    before = await mine.rows()

    answer = await mine.ask(row.method, path, key=key, body=json.loads(text))

    assert not mine.seen_in(answer.whole)
    assert await mine.rows() == before
    if row.scopes is None:
        assert answer.status == row.own
        return
    is_refused(answer, 401, "unauthenticated")
    assert "www-authenticate: Bearer" in answer.headers


@pytest.mark.parametrize("row", NEEDING_A_KEY, ids=lambda row: row.id)
async def test_key_of_another_account_reads_nothing_and_changes_nothing(
    row: Row, mine: Account, other: Account
) -> None:
    named = mine if row.other >= 400 else other
    path, text = await filled(named, row.path), await filled(named, json.dumps(row.body))
    before = await mine.rows()

    answer = await mine.ask(
        row.method, path, key=other.owner, body=json.loads(text), last_event_id="0"
    )

    assert answer.status == row.other, answer
    if row.other >= 400:
        is_refused(answer, row.other, row.other_code)
    assert not mine.seen_in(answer.whole, said=path + text)
    assert await mine.rows() == before
    if row.method == "GET" and row.other >= 400:
        head = await mine.ask("HEAD", path, key=other.owner)
        assert (head.status, head.body) == (row.other, "")


@pytest.mark.parametrize("row", NAMING, ids=lambda row: row.id)
async def test_a_thing_of_another_account_is_as_unknown_as_any(
    row: Row, mine: Account, other: Account
) -> None:
    (kind,) = re.findall(r"\$([A-Z_]+)", row.path)
    said = []
    for name in (await mine.fresh(kind), unknown(kind)):
        path = row.path.replace(f"${kind}", name)
        answer = await mine.ask(row.method, path, key=other.owner, body=row.body)
        said.append((answer.status, _without_ids(answer.json, name)))

    assert said[0] == said[1]


@pytest.mark.parametrize(
    ("row", "scope"), NEEDING_A_SCOPE, ids=lambda value: getattr(value, "id", value)
)
async def test_key_that_lacks_a_scope_is_told_which(row: Row, scope: str, mine: Account) -> None:
    key = mine.owner if scope == OPERATOR else await mine.key_without(scope)
    path, text = await filled(mine, row.path), await filled(mine, json.dumps(row.body))
    before = await mine.rows()

    answer = await mine.ask(row.method, path, key=key, body=json.loads(text))

    is_refused(answer, 403, "insufficient_scope")
    assert f"needs the scope {scope};" in answer.json["detail"]
    assert not mine.seen_in(answer.whole, said=path + text)
    assert await mine.rows() == before


@pytest.mark.parametrize("row", NEEDING_A_KEY, ids=lambda row: row.id)
async def test_key_that_only_reads_writes_nothing(row: Row, mine: Account) -> None:
    key = await mine.key(scopes=list(READING))
    path, text = await filled(mine, row.path), await filled(mine, json.dumps(row.body))
    before = await mine.rows()

    answer = await mine.ask(row.method, path, key=key, body=json.loads(text))

    if row.writes or row.scopes == (OPERATOR,):
        is_refused(answer, 403, "insufficient_scope")
    else:
        assert answer.status == row.own, answer
    assert await mine.rows() == before


@pytest.mark.parametrize("row", NEEDING_A_KEY, ids=lambda row: row.id)
async def test_key_of_an_admin_is_no_operators(row: Row, spent: Account) -> None:
    email = f"admin-{await spent.fresh('NEW')}@example.org"
    admin = await spent.make("/v1/users", {"email": email, "role": "admin"})
    made = await spent.make("/v1/keys", {"user_number": admin["number"]})
    spent.marks |= {made["id"], made["key"]}

    answer = await sent(row, spent, key=made["key"])

    if row.scopes == (OPERATOR,):
        is_refused(answer, 403, "insufficient_scope")
    elif row.path == "/v1/keys/$KEY/rotate":
        # The key is the owner's, above whom no admin acts.
        is_refused(answer, 403, "permission_denied")
    else:
        assert answer.status == row.own, answer


@pytest.mark.parametrize("row", NEEDING_A_KEY, ids=lambda row: row.id)
async def test_key_in_test_mode_touches_no_live_key_and_nobody(row: Row, spent: Account) -> None:
    key = await spent.key(mode="test")

    answer = await sent(row, spent, key=key)

    if row.scopes == (OPERATOR,):
        is_refused(answer, 403, "insufficient_scope")
    elif row.test is not None:
        is_refused(answer, row.test, "permission_denied")
    else:
        assert answer.status == row.own, answer


@pytest.mark.parametrize("detour", DETOURS, ids=lambda detour: detour.id)
async def test_no_detour_leads_to_another_account(
    detour: Detour, mine: Account, other: Account
) -> None:
    path, text = await filled(mine, detour.path), await filled(mine, json.dumps(detour.body))
    before = await mine.rows()

    answer = await mine.ask(detour.method, path, key=other.owner, body=json.loads(text))

    assert answer.status in detour.statuses, answer
    assert not mine.seen_in(answer.whole, said=path + text)
    assert await mine.rows() == before


@pytest.mark.parametrize("detour", UNKNOWABLE, ids=lambda detour: detour.id)
async def test_on_a_detour_a_thing_of_another_account_is_as_unknown_as_any(
    detour: Detour, mine: Account, other: Account
) -> None:
    (kind,) = detour.kinds
    said = []
    for name in (await mine.fresh(kind), unknown(kind)):
        path, text = detour.path.replace(f"${kind}", name), json.dumps(detour.body)
        body = json.loads(text.replace(f'"#{kind}"', name).replace(f"${kind}", name))
        answer = await mine.ask(detour.method, path, key=other.owner, body=body)
        said.append((answer.status, _without_ids(answer.json, name)))

    assert said[0] == said[1]


@pytest.mark.parametrize("path", ["/api/v1/tasks/$TASK", "/api/v1/tasks/$TASK/trace"])
async def test_an_etag_or_a_wait_tells_another_account_nothing(
    path: str, mine: Account, other: Account
) -> None:
    path = await filled(mine, path)
    own = await mine.ask("GET", path, key=mine.owner)
    (etag,) = re.findall(r"^etag: (.*)$", own.headers, re.MULTILINE)
    seen = [
        await mine.ask("GET", path, key=key, if_none_match=tag)
        for key, tag in ((mine.owner, etag), (other.owner, etag), (other.owner, "*"))
    ]

    assert [answer.status for answer in seen] == [304, 404, 404]
    if "trace" not in path:
        began = time.monotonic()
        waited = await mine.ask("GET", f"{path}?wait=20", key=other.owner)
        is_refused(waited, 404, "not_found")
        assert time.monotonic() - began < 5


async def test_follower_of_one_account_hears_that_account_alone(
    mine: Account, other: Account
) -> None:
    heard = {
        whose.canary: await whose.ask("GET", "/v1/events", key=whose.owner, last_event_id="0")
        for whose in (mine, other)
    }

    for whose, else_ in ((mine, other), (other, mine)):
        assert whose.things["TASK"] in heard[whose.canary].body
        assert not else_.seen_in(heard[whose.canary].whole)


@pytest.mark.parametrize("path", [EXECUTE, "/api/v1/tasks/batch"])
async def test_idempotency_key_of_another_account_is_free(
    path: str, other: Account, spent: Account
) -> None:
    body: Any = {"task_definition": {"expression": "2+2"}}
    if path != EXECUTE:
        body = {"tasks": [body]}
    same = await spent.fresh("NEW")

    answers = [
        await spent.ask("POST", path, key=key, body=body, idempotency_key=same)
        for key in (spent.owner, await spent.key(), await spent.key(mode="test"), other.owner)
    ]

    replayed = ["idempotent-replayed: true" in answer.headers.lower() for answer in answers]
    assert [answer.status for answer in answers] == [200] * 4
    assert replayed == [False, True, False, False]


def _leaves(routes: Iterable[object]) -> Iterator[object]:
    """The routes that answer: those of included routers in the place of these."""
    for route in routes:
        included = getattr(route, "original_router", None)
        if included is None:
            yield route
        else:
            yield from _leaves(included.routes)


def _without_ids(problem: dict[str, Any], name: str) -> str:
    return json.dumps(problem | {"request_id": ""}).replace(name, "")

"""Rotating keys over real gRPC: both good for a while, one successor, nothing gained by it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from libs.core.errors import PawlError
from libs.pb.pawl.auth.v1 import auth_pb2
from libs.pb.pawl.auth.v1 import auth_service_pb2 as pb
from libs.rpc.context import Caller
from libs.rpc.tokens import KeyRing
from services.auth.model import MadeKey
from tests.auth_world import START, Auth, auth_server, fields, stamp
from tests.servers import Database

pytestmark = pytest.mark.db

DAY = timedelta(days=1)
AGENT = "0199d2a0-4c11-7a3b-9d52-8b6f0e1c7a55"


@pytest.fixture
async def auth(database: Database, keys: KeyRing) -> AsyncIterator[Auth]:
    async with auth_server(database, keys) as auth:
        yield auth


@pytest.fixture
async def acme(auth: Auth) -> MadeKey:
    """A key of the owner of a tenant."""
    return await auth.world.key_of_new_tenant("acme")


async def is_good(auth: Auth, secret: str) -> bool:
    try:
        await auth.stub.Authenticate(pb.AuthenticateRequest(api_key=secret))
    except PawlError as refused:
        return refused.code != "unauthenticated"
    return True


def ends(key: auth_pb2.ApiKey) -> datetime | None:
    return key.expires_at.ToDatetime(tzinfo=UTC) if key.HasField("expires_at") else None


def like(key: auth_pb2.ApiKey) -> auth_pb2.ApiKey:
    """A key but for what no two keys have in common."""
    alike = auth_pb2.ApiKey()
    alike.CopyFrom(key)
    alike.ClearField("id")
    alike.ClearField("display")
    alike.ClearField("created_at")
    return alike


async def test_both_keys_are_good_until_the_overlap_ends(auth: Auth, acme: MadeKey) -> None:
    old = await auth.world.another_key(acme)
    request = pb.RotateKeyRequest(key_id=str(old.key.id), overlap_seconds=60)

    said = await auth.as_key(acme.secret, "RotateKey", request)

    assert (await is_good(auth, old.secret), await is_good(auth, said.secret)) == (True, True)
    auth.world.clock.move(timedelta(seconds=60))
    assert (await is_good(auth, old.secret), await is_good(auth, said.secret)) == (False, True)
    assert said.replaced.id == str(old.key.id)
    assert said.replaced.replaced_by_id == said.key.id
    assert ends(said.replaced) == START + timedelta(seconds=60)


async def test_successor_is_like_the_old_key(auth: Auth, acme: MadeKey) -> None:
    user, _ = await auth.world.user_with_key(acme, "member")
    old = await auth.as_key(
        acme.secret,
        "CreateKey",
        pb.CreateKeyRequest(
            name="ci",
            mode="test",
            prefix="ra",
            scopes=["tasks:read", "tasks:write"],
            expires_at=stamp(START + 2 * DAY),
            allowed_agent_ids=auth_pb2.IdAllowList(ids=[AGENT]),
            allowed_task_ids=auth_pb2.IdAllowList(),
            user_number=user.number,
        ),
    )

    said = await auth.as_key(acme.secret, "RotateKey", pb.RotateKeyRequest(key_id=old.key.id))

    assert like(said.key) == like(old.key)
    assert said.key.id != old.key.id
    assert said.secret.startswith("ra_test_")
    # The overlap is a day when nothing is said.
    assert (ends(said.replaced), ends(said.key)) == (START + DAY, START + 2 * DAY)


@pytest.mark.parametrize(
    ("old_end", "overlap", "given", "old_ends", "new_ends"),
    [
        (None, 3600, None, START + timedelta(hours=1), None),
        (None, 3600, START + DAY, START + timedelta(hours=1), START + DAY),
        (START + timedelta(minutes=1), 3600, None, *[START + timedelta(minutes=1)] * 2),
        (
            START + timedelta(minutes=1),
            3600,
            START + DAY,
            START + timedelta(minutes=1),
            START + DAY,
        ),
        (None, 0, None, START, None),
    ],
)
async def test_ends_of_both_keys(
    auth: Auth,
    acme: MadeKey,
    old_end: datetime | None,
    overlap: int,
    given: datetime | None,
    old_ends: datetime,
    new_ends: datetime | None,
) -> None:
    made = pb.CreateKeyRequest(expires_at=None if old_end is None else stamp(old_end))
    old = await auth.as_key(acme.secret, "CreateKey", made)
    request = pb.RotateKeyRequest(
        key_id=old.key.id,
        overlap_seconds=overlap,
        expires_at=None if given is None else stamp(given),
    )

    said = await auth.as_key(acme.secret, "RotateKey", request)

    assert (ends(said.replaced), ends(said.key)) == (old_ends, new_ends)
    assert await is_good(auth, old.secret) is (overlap > 0)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.RotateKeyRequest(overlap_seconds=-1), "overlap_seconds"),
        (pb.RotateKeyRequest(overlap_seconds=2_592_001), "overlap_seconds"),
        (pb.RotateKeyRequest(expires_at=stamp(START)), "expires_at"),
        # It would end before the old one, a day from now.
        (pb.RotateKeyRequest(expires_at=stamp(START + timedelta(hours=23))), "expires_at"),
    ],
    ids=["negative", "too-long", "past", "before-the-old-one"],
)
async def test_what_cannot_be_is_refused_by_name(
    auth: Auth, acme: MadeKey, request_: pb.RotateKeyRequest, field: str
) -> None:
    request_.key_id = str(acme.key.id)

    refused = await auth.refusal(acme.secret, "RotateKey", request_)

    assert refused.code == "validation_failed"
    assert fields(refused) == [(field, "out_of_range")]
    [row] = await auth.world.rows("SELECT count(*) FROM auth.api_keys WHERE name = ''")
    assert row["count"] == 1


async def test_key_rotates_itself(auth: Auth, acme: MadeKey) -> None:
    request = pb.RotateKeyRequest(key_id=str(acme.key.id), overlap_seconds=0)

    said = await auth.as_key(acme.secret, "RotateKey", request)

    assert (await is_good(auth, acme.secret), await is_good(auth, said.secret)) == (False, True)


async def test_key_is_rotated_once_and_then_its_successor(auth: Auth, acme: MadeKey) -> None:
    old = await auth.world.another_key(acme)
    request = pb.RotateKeyRequest(key_id=str(old.key.id))
    first = await auth.as_key(acme.secret, "RotateKey", request)

    again = await auth.refusal(acme.secret, "RotateKey", request)
    next_one = await auth.as_key(acme.secret, "RotateKey", pb.RotateKeyRequest(key_id=first.key.id))

    assert again.code == "conflict"
    assert first.key.id in again.message
    assert next_one.replaced.id == first.key.id


@pytest.mark.parametrize("how", ["revoked", "expired"])
async def test_ended_key_is_not_rotated(auth: Auth, acme: MadeKey, how: str) -> None:
    request = pb.CreateKeyRequest(expires_at=stamp(START + timedelta(seconds=1)))
    old = await auth.as_key(acme.secret, "CreateKey", request)
    if how == "revoked":
        await auth.as_key(acme.secret, "RevokeKey", pb.RevokeKeyRequest(key_id=old.key.id))
    auth.world.clock.move(timedelta(seconds=1))

    refused = await auth.refusal(acme.secret, "RotateKey", pb.RotateKeyRequest(key_id=old.key.id))

    assert refused.code == "conflict"
    assert how in refused.message


async def test_two_rotations_at_once_make_one_successor(auth: Auth, acme: MadeKey) -> None:
    old = await auth.world.another_key(acme)
    request = pb.RotateKeyRequest(key_id=str(old.key.id))

    answers = await asyncio.gather(
        *(auth.as_key(acme.secret, "RotateKey", request) for _ in range(10)),
        return_exceptions=True,
    )

    won = [answer for answer in answers if not isinstance(answer, BaseException)]
    codes = [answer.code for answer in answers if isinstance(answer, PawlError)]
    assert (len(won), codes) == (1, ["conflict"] * 9)
    keys = (await auth.as_key(acme.secret, "ListKeys", pb.ListKeysRequest())).keys
    assert len(keys) == 3
    assert await is_good(auth, won[0].secret)


async def test_another_tenants_key_is_as_unknown_as_no_key(auth: Auth, acme: MadeKey) -> None:
    other = await auth.world.key_of_new_tenant("other")

    for name, request in (("RotateKey", pb.RotateKeyRequest), ("GetKey", pb.GetKeyRequest)):
        unknown = str(uuid4())
        foreign = await auth.refusal(acme.secret, name, request(key_id=str(other.key.id)))
        none = await auth.refusal(acme.secret, name, request(key_id=unknown))
        assert foreign.code == none.code == "not_found"
        assert foreign.message.replace(str(other.key.id), unknown) == none.message


async def test_operator_rotates_any_key_but_an_operators(auth: Auth, acme: MadeKey) -> None:
    operator = await auth.world.operator_key()

    said = await auth.as_key(
        operator.secret, "RotateKey", pb.RotateKeyRequest(key_id=str(acme.key.id))
    )
    refused = await auth.refusal(
        operator.secret, "RotateKey", pb.RotateKeyRequest(key_id=str(operator.key.id))
    )

    assert said.key.tenant_id == str(acme.key.tenant_id)
    assert refused.code == "permission_denied"
    assert "installation" in refused.message


async def test_rotation_gives_nobody_more_than_they_have(auth: Auth, acme: MadeKey) -> None:
    """Whoever rotates a key learns its secret."""
    agents = auth_pb2.IdAllowList(ids=[AGENT])
    admin, admins = await auth.world.user_with_key(acme, "admin")
    makers = {
        "insufficient_scope": pb.CreateKeyRequest(scopes=["keys:write", "tasks:read"]),
        "test": pb.CreateKeyRequest(mode="test"),
        "bound": pb.CreateKeyRequest(allowed_agent_ids=agents),
    }
    target = await auth.world.another_key(acme)
    request = pb.RotateKeyRequest(key_id=str(target.key.id))

    codes = {}
    for name, maker in makers.items():
        made = await auth.as_key(acme.secret, "CreateKey", maker)
        codes[name] = (await auth.refusal(made.secret, "RotateKey", request)).code
    codes["lower role"] = (await auth.refusal(admins.secret, "RotateKey", request)).code

    assert admins.key.user_number == admin.number
    assert codes == {
        "insufficient_scope": "insufficient_scope",
        "test": "permission_denied",
        "bound": "permission_denied",
        "lower role": "permission_denied",
    }
    listed = (await auth.as_key(acme.secret, "ListKeys", pb.ListKeysRequest())).keys
    assert not any(key.HasField("replaced_by_id") for key in listed)


async def test_rotation_stands_in_the_audit_log(auth: Auth, acme: MadeKey) -> None:
    old = await auth.world.another_key(acme)
    request = pb.RotateKeyRequest(key_id=str(old.key.id), overlap_seconds=1)
    said = await auth.as_key(acme.secret, "RotateKey", request)

    log = await auth.as_key(acme.secret, "ListAudit", pb.ListAuditRequest(page_size=2))

    rotated, created = log.entries
    assert [entry.action for entry in log.entries] == ["key.rotated", "key.created"]
    assert (rotated.subject, created.subject) == (str(old.key.id), said.key.id)
    assert rotated.actor_key_id == str(acme.key.id)
    assert json.loads(rotated.details_json) == {
        "replaced_by_id": said.key.id,
        "expires_at_before": None,
        "expires_at_after": "2026-05-31T12:00:01.000000+00:00",
    }
    assert json.loads(created.details_json)["replaces_id"] == str(old.key.id)


async def test_token_of_a_revoked_key_rotates_nothing(auth: Auth, acme: MadeKey) -> None:
    target = await auth.world.another_key(acme)
    answer = await auth.stub.Authenticate(pb.AuthenticateRequest(api_key=acme.secret))
    revoke = pb.RevokeKeyRequest(key_id=str(acme.key.id))
    await auth.with_token(answer.caller_token, "RevokeKey", revoke)

    request = pb.RotateKeyRequest(key_id=str(target.key.id))
    with pytest.raises(PawlError) as refused:
        await auth.with_token(answer.caller_token, "RotateKey", request)

    assert refused.value.code == "unauthenticated"
    assert await is_good(auth, target.secret)


async def test_successor_of_a_bound_key_is_bound_too(auth: Auth, acme: MadeKey) -> None:
    request = pb.CreateKeyRequest(allowed_agent_ids=auth_pb2.IdAllowList(ids=[AGENT]))
    old = await auth.as_key(acme.secret, "CreateKey", request)

    said = await auth.as_key(old.secret, "RotateKey", pb.RotateKeyRequest(key_id=old.key.id))

    answer = await auth.stub.Authenticate(pb.AuthenticateRequest(api_key=said.secret))
    caller = auth.world.verifier.verify(answer.caller_token)
    assert isinstance(caller, Caller)
    assert caller.allowed_agent_ids == frozenset({AGENT})
    assert caller.allowed_task_ids is None

"""Changes of accounts that meet: whatever comes first, nothing is half and nobody gains by it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any
from uuid import UUID

import pytest

from libs.core.errors import PawlError
from libs.pb.pawl.auth.v1 import auth_service_pb2 as pb
from libs.rpc.tokens import KeyRing
from services.auth.model import MadeKey
from tests.auth_world import Auth, auth_server
from tests.servers import Database

pytestmark = pytest.mark.db

ROUNDS = 8


@pytest.fixture
async def auth(database: Database, keys: KeyRing) -> AsyncIterator[Auth]:
    async with auth_server(database, keys) as auth:
        yield auth


@pytest.fixture
async def acme(auth: Auth) -> MadeKey:
    """A key of the owner of a tenant."""
    return await auth.world.key_of_new_tenant("acme")


async def token_of(auth: Auth, secret: str) -> str:
    answer = await auth.stub.Authenticate(pb.AuthenticateRequest(api_key=secret))
    return str(answer.caller_token)


async def codes_of(*calls: Awaitable[Any]) -> list[str]:
    """How each ended: its refusal's code, or empty when it was done."""
    answers = await asyncio.gather(*calls, return_exceptions=True)
    for answer in answers:
        assert isinstance(answer, PawlError) or not isinstance(answer, BaseException), answer
    return [answer.code if isinstance(answer, PawlError) else "" for answer in answers]


async def test_key_made_by_a_key_that_is_being_revoked_stands_or_does_not(
    auth: Auth, acme: MadeKey
) -> None:
    for _ in range(ROUNDS):
        maker = await auth.world.another_key(acme)
        token = await token_of(auth, maker.secret)
        before = await auth.world.rows("SELECT count(*) FROM auth.api_keys")
        revoke = pb.RevokeKeyRequest(key_id=str(maker.key.id))

        made, revoked = await codes_of(
            auth.with_token(token, "CreateKey", pb.CreateKeyRequest()),
            auth.as_key(acme.secret, "RevokeKey", revoke),
        )
        too_late = await codes_of(auth.with_token(token, "CreateKey", pb.CreateKeyRequest()))

        after = await auth.world.rows("SELECT count(*) FROM auth.api_keys")
        assert made in {"", "unauthenticated"}
        assert (revoked, too_late) == ("", ["unauthenticated"])
        assert after[0]["count"] - before[0]["count"] == (1 if made == "" else 0)


async def test_key_is_rotated_or_revoked_first_and_refused_after_both(
    auth: Auth, acme: MadeKey
) -> None:
    for _ in range(ROUNDS):
        old = await auth.world.another_key(acme)
        rotate = pb.RotateKeyRequest(key_id=str(old.key.id))
        revoke = pb.RevokeKeyRequest(key_id=str(old.key.id))

        rotated, revoked = await codes_of(
            auth.as_key(acme.secret, "RotateKey", rotate),
            auth.as_key(acme.secret, "RevokeKey", revoke),
        )

        assert (rotated in {"", "conflict"}, revoked) == (True, "")
        with pytest.raises(PawlError):
            await auth.stub.Authenticate(pb.AuthenticateRequest(api_key=old.secret))


async def test_key_that_rotates_itself_while_it_is_revoked_ends(auth: Auth, acme: MadeKey) -> None:
    for _ in range(ROUNDS):
        old = await auth.world.another_key(acme)
        token = await token_of(auth, old.secret)

        rotated, revoked = await codes_of(
            auth.with_token(token, "RotateKey", pb.RotateKeyRequest(key_id=str(old.key.id))),
            auth.as_key(acme.secret, "RevokeKey", pb.RevokeKeyRequest(key_id=str(old.key.id))),
        )

        assert rotated in {"", "conflict", "unauthenticated"}
        assert revoked == ""


async def test_owner_hands_over_to_one_of_many(auth: Auth, acme: MadeKey) -> None:
    owner = await auth.world.owner_of(acme.key.tenant_id)
    people = []
    for place in range(ROUNDS):
        request = pb.CreateUserRequest(email=f"u{place}@example.org", role="admin")
        people.append((await auth.as_key(acme.secret, "CreateUser", request)).user)
    token = await token_of(auth, acme.secret)

    codes = await codes_of(
        *(
            auth.with_token(
                token, "UpdateUser", pb.UpdateUserRequest(number=u.number, role="owner")
            )
            for u in people
        )
    )

    assert sorted(codes) == ["", *["permission_denied"] * (ROUNDS - 1)]
    users = (await auth.as_key(acme.secret, "ListUsers", pb.ListUsersRequest())).users
    roles = {user.number: user.role for user in users}
    winner = people[codes.index("")].number
    assert roles[winner] == "owner"
    assert roles[owner.number] == "admin"
    assert list(roles.values()).count("owner") == 1


async def test_hand_over_and_removal_of_the_heir_leave_one_owner(auth: Auth, acme: MadeKey) -> None:
    operator = (await auth.world.operator_key()).secret
    for place in range(ROUNDS):
        request = pb.CreateUserRequest(tenant="acme", email=f"h{place}@example.org", role="admin")
        heir = (await auth.as_key(operator, "CreateUser", request)).user.number

        codes = await codes_of(
            auth.as_key(operator, "UpdateUser", pb.UpdateUserRequest(number=heir, role="owner")),
            auth.as_key(operator, "RemoveUser", pb.RemoveUserRequest(number=heir)),
        )

        assert codes in (["", "conflict"], ["not_found", ""])
        await _has_one_owner(auth, acme.key.tenant_id)


async def test_key_made_for_a_person_who_is_being_removed_is_revoked_or_not_made(
    auth: Auth, acme: MadeKey
) -> None:
    for place in range(ROUNDS):
        request = pb.CreateUserRequest(email=f"r{place}@example.org", role="member")
        number = (await auth.as_key(acme.secret, "CreateUser", request)).user.number

        codes = await codes_of(
            auth.as_key(acme.secret, "CreateKey", pb.CreateKeyRequest(user_number=number)),
            auth.as_key(acme.secret, "RemoveUser", pb.RemoveUserRequest(number=number)),
        )

        assert codes in (["", ""], ["not_found", ""])
        good = "SELECT 1 FROM auth.api_keys WHERE user_number = %s AND revoked_at IS NULL"
        assert await auth.world.rows(good, number) == []


async def test_admins_who_demote_each_other_do_not_both_succeed(auth: Auth, acme: MadeKey) -> None:
    """Each of two has a token from before; whoever comes second is an admin no longer."""
    for place in range(ROUNDS):
        pair = [
            await auth.world.user_with_key(acme, "admin", email=f"{name}{place}@example.org")
            for name in ("a", "b")
        ]
        (one, ones), (two, twos) = pair
        tokens = [await token_of(auth, key.secret) for key in (ones, twos)]

        codes = await codes_of(
            *(
                auth.with_token(
                    token, "UpdateUser", pb.UpdateUserRequest(number=user.number, role="viewer")
                )
                for token, user in zip(tokens, (two, one), strict=True)
            )
        )

        assert sorted(codes) == ["", "insufficient_scope"]


async def test_admins_who_remove_themselves_at_once_do_not_block_each_other(
    auth: Auth, acme: MadeKey
) -> None:
    pair = [
        await auth.world.user_with_key(acme, "admin", email=f"{name}@example.org")
        for name in ("a", "b")
    ]

    codes = await codes_of(
        *(
            auth.as_key(key.secret, "RemoveUser", pb.RemoveUserRequest(number=user.number))
            for user, key in pair
            for _ in range(3)
        )
    )

    assert codes.count("") == 2
    assert set(codes) <= {"", "not_found", "unauthenticated"}


async def test_everything_at_once_in_two_tenants_ends_in_order(auth: Auth, acme: MadeKey) -> None:
    """Changes by an operator and by the tenants' own keys: no deadlock, no half change."""
    other = await auth.world.key_of_new_tenant("other")
    operator = (await auth.world.operator_key()).secret
    calls: list[Awaitable[Any]] = []
    for place in range(ROUNDS):
        for tenant, own in (("acme", acme), ("other", other)):
            email = f"u{place}@{tenant}.example"
            add = pb.CreateUserRequest(tenant=tenant, email=email, role="member")
            tier = pb.UpdateTenantRequest(tenant=tenant, tier=("free", "pro")[place % 2])
            make = pb.CreateKeyRequest(tenant=tenant)
            calls += [
                auth.as_key(own.secret, "CreateUser", add),
                auth.as_key(operator, "CreateUser", add),
                auth.as_key(operator, "UpdateTenant", tier),
                auth.as_key(operator, "CreateKey", make),
                auth.as_key(own.secret, "CreateKey", make),
            ]

    codes = await codes_of(*calls)

    assert sorted(set(codes)) == ["", "already_exists"]
    assert codes.count("already_exists") == 2 * ROUNDS
    lines = await auth.world.rows("SELECT count(*) FROM auth.audit_log WHERE action LIKE 'user.%%'")
    assert lines[0]["count"] == 2 * ROUNDS


async def _has_one_owner(auth: Auth, tenant_id: UUID) -> None:
    owners = await auth.world.rows(
        "SELECT 1 FROM auth.users WHERE tenant_id = %s AND role = 'owner' AND removed_at IS NULL",
        tenant_id,
    )
    assert len(owners) == 1

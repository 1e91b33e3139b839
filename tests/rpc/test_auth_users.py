"""People and their roles over real gRPC: who may change whom, and what their keys can do then."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from libs.core.errors import PawlError
from libs.pb.pawl.auth.v1 import auth_service_pb2 as pb
from libs.rpc.tokens import CALLER_TOKEN_SECONDS, KeyRing
from services.auth.model import MadeKey
from services.auth.scopes import ALLOWED
from tests.auth_world import Auth, auth_server, fields
from tests.servers import Database

pytestmark = pytest.mark.db

ANN = pb.CreateUserRequest(email="ann@example.org", role="member")


@pytest.fixture
async def auth(database: Database, keys: KeyRing) -> AsyncIterator[Auth]:
    async with auth_server(database, keys) as auth:
        yield auth


@pytest.fixture
async def acme(auth: Auth) -> MadeKey:
    """A key of the owner of a tenant."""
    return await auth.world.key_of_new_tenant("acme")


async def roles(auth: Auth, secret: str) -> dict[int, str]:
    users = (await auth.as_key(secret, "ListUsers", pb.ListUsersRequest())).users
    return {user.number: user.role for user in users}


async def scopes_of(auth: Auth, secret: str) -> list[str]:
    answer = await auth.stub.Authenticate(pb.AuthenticateRequest(api_key=secret))
    return sorted(answer.scopes)


async def test_person_is_added_and_listed(auth: Auth, acme: MadeKey) -> None:
    made = (await auth.as_key(acme.secret, "CreateUser", ANN)).user

    listed = (await auth.as_key(acme.secret, "ListUsers", pb.ListUsersRequest())).users
    assert (made.email, made.role, made.tenant_id) == (
        "ann@example.org",
        "member",
        str(acme.key.tenant_id),
    )
    assert [user.role for user in listed] == ["owner", "member"]
    assert listed[1] == made


async def test_people_are_listed_page_by_page(auth: Auth, acme: MadeKey) -> None:
    for place in range(4):
        request = pb.CreateUserRequest(email=f"u{place}@example.org", role="viewer")
        await auth.as_key(acme.secret, "CreateUser", request)
    other = await auth.world.key_of_new_tenant("other")

    emails, token, pages = [], "", 0
    while pages == 0 or token:
        page_request = pb.ListUsersRequest(page_size=2, page_token=token)
        page = await auth.as_key(acme.secret, "ListUsers", page_request)
        emails += [user.email for user in page.users]
        token, pages = page.next_page_token, pages + 1

    assert emails == ["acme@localhost", *(f"u{place}@example.org" for place in range(4))]
    assert pages == 3
    first = await auth.as_key(acme.secret, "ListUsers", pb.ListUsersRequest(page_size=1))
    foreign = pb.ListUsersRequest(page_token=first.next_page_token)
    assert (await auth.refusal(other.secret, "ListUsers", foreign)).code == "invalid_cursor"


async def test_every_bad_field_of_a_person_is_named(auth: Auth, acme: MadeKey) -> None:
    request = pb.CreateUserRequest(tenant="No", email="no", role="owner")

    refused = await auth.refusal(acme.secret, "CreateUser", request)
    empty = await auth.refusal(acme.secret, "CreateUser", pb.CreateUserRequest())

    assert fields(refused) == [
        ("tenant", "invalid_format"),
        ("email", "invalid_format"),
        ("role", "unknown_value"),
    ]
    assert fields(empty) == [("email", "required"), ("role", "unknown_value")]


async def test_taken_address_is_refused(auth: Auth, acme: MadeKey) -> None:
    await auth.as_key(acme.secret, "CreateUser", ANN)
    request = pb.CreateUserRequest(email="Ann@Example.org", role="viewer")

    assert (await auth.refusal(acme.secret, "CreateUser", request)).code == "already_exists"


@pytest.mark.parametrize("role", ["admin", "member", "viewer"])
async def test_key_can_do_what_the_role_of_its_user_allows(
    auth: Auth, acme: MadeKey, role: str
) -> None:
    user, made = await auth.world.user_with_key(acme, role)

    assert await scopes_of(auth, made.secret) == sorted(ALLOWED[role])
    assert set(made.key.scopes) == ALLOWED[role]
    caller = await auth.world.caller(made.secret)
    assert caller.roles == {role}
    assert made.key.user_number == user.number


@pytest.mark.parametrize(
    ("role", "scope"),
    [("viewer", "tasks:write"), ("member", "keys:write"), ("member", "users:read")],
)
async def test_no_key_is_made_with_scopes_beyond_the_role(
    auth: Auth, acme: MadeKey, role: str, scope: str
) -> None:
    user, _ = await auth.world.user_with_key(acme, role)
    request = pb.CreateKeyRequest(user_number=user.number, scopes=["tasks:read", scope])

    refused = await auth.refusal(acme.secret, "CreateKey", request)

    assert refused.code == "validation_failed"
    assert fields(refused) == [("scopes[1]", "invalid_value")]
    assert role in refused.message


async def test_lowered_role_cuts_keys_that_exist_and_a_raised_one_gives_back(
    auth: Auth, acme: MadeKey
) -> None:
    user, made = await auth.world.user_with_key(acme, "admin")
    before = await auth.stub.Authenticate(pb.AuthenticateRequest(api_key=made.secret))

    lowered = pb.UpdateUserRequest(number=user.number, role="viewer")
    await auth.as_key(acme.secret, "UpdateUser", lowered)

    assert await scopes_of(auth, made.secret) == sorted(ALLOWED["viewer"])
    # The token from before lives for its 5 s, but makes nothing lasting any more.
    reading = await auth.with_token(before.caller_token, "ListUsers", pb.ListUsersRequest())
    assert len(reading.users) == 2
    for name, request in (
        ("CreateKey", pb.CreateKeyRequest(user_number=user.number, scopes=["tasks:read"])),
        ("CreateUser", ANN),
        ("UpdateUser", pb.UpdateUserRequest(number=user.number, role="admin")),
        ("RotateKey", pb.RotateKeyRequest(key_id=str(made.key.id))),
    ):
        with pytest.raises(PawlError) as refused:
            await auth.with_token(before.caller_token, name, request)
        assert refused.value.code == "insufficient_scope"
    auth.world.clock.move(timedelta(seconds=CALLER_TOKEN_SECONDS + 1))
    with pytest.raises(PawlError):
        await auth.with_token(before.caller_token, "ListUsers", pb.ListUsersRequest())
    raised = pb.UpdateUserRequest(number=user.number, role="admin")
    await auth.as_key(acme.secret, "UpdateUser", raised)
    assert await scopes_of(auth, made.secret) == sorted(ALLOWED["admin"])


async def test_owner_hands_over_and_is_an_admin_then(auth: Auth, acme: MadeKey) -> None:
    owner = await auth.world.owner_of(acme.key.tenant_id)
    user, made = await auth.world.user_with_key(acme, "member")
    request = pb.UpdateUserRequest(number=user.number, role="owner")

    said = (await auth.as_key(acme.secret, "UpdateUser", request)).user

    assert said.role == "owner"
    assert await roles(auth, acme.secret) == {owner.number: "admin", user.number: "owner"}
    back = pb.UpdateUserRequest(number=owner.number, role="owner")
    assert (await auth.refusal(acme.secret, "UpdateUser", back)).code == "permission_denied"
    # The new owner's key has the scopes that it was made with, and no more.
    assert await scopes_of(auth, made.secret) == sorted(ALLOWED["member"])


async def test_tenant_keeps_an_owner(auth: Auth, acme: MadeKey) -> None:
    owner = await auth.world.owner_of(acme.key.tenant_id)
    operator = (await auth.world.operator_key()).secret

    for secret in (acme.secret, operator):
        demoted = pb.UpdateUserRequest(number=owner.number, role="admin")
        removed = pb.RemoveUserRequest(number=owner.number)
        assert (await auth.refusal(secret, "UpdateUser", demoted)).code == "conflict"
        assert (await auth.refusal(secret, "RemoveUser", removed)).code == "conflict"


@pytest.mark.parametrize(
    ("name", "request_"),
    [
        ("UpdateUser", pb.UpdateUserRequest(role="viewer")),
        ("UpdateUser", pb.UpdateUserRequest(role="owner")),
        ("RemoveUser", pb.RemoveUserRequest()),
    ],
    ids=["demote", "stay", "remove"],
)
async def test_admin_does_not_touch_the_owner(
    auth: Auth, acme: MadeKey, name: str, request_: pb.UpdateUserRequest | pb.RemoveUserRequest
) -> None:
    owner = await auth.world.owner_of(acme.key.tenant_id)
    _, admins = await auth.world.user_with_key(acme, "admin")
    request_.number = owner.number

    refused = await auth.refusal(admins.secret, name, request_)

    assert refused.code == "permission_denied"
    assert (await auth.world.owner_of(acme.key.tenant_id)) == owner


async def test_admin_makes_nobody_owner_and_no_key_of_the_owner(auth: Auth, acme: MadeKey) -> None:
    owner = await auth.world.owner_of(acme.key.tenant_id)
    user, _ = await auth.world.user_with_key(acme, "member")
    _, admins = await auth.world.user_with_key(acme, "admin")

    promote = pb.UpdateUserRequest(number=user.number, role="owner")
    make = pb.CreateKeyRequest(user_number=owner.number, scopes=["tasks:read"])
    promoted = pb.UpdateUserRequest(number=user.number, role="admin")

    assert (await auth.refusal(admins.secret, "UpdateUser", promote)).code == "permission_denied"
    assert (await auth.refusal(admins.secret, "CreateKey", make)).code == "permission_denied"
    await auth.as_key(admins.secret, "UpdateUser", promoted)


async def test_operator_acts_on_every_role_of_every_tenant(auth: Auth, acme: MadeKey) -> None:
    operator = (await auth.world.operator_key()).secret
    owner = await auth.world.owner_of(acme.key.tenant_id)
    request = pb.CreateUserRequest(tenant="acme", email="bo@example.org", role="admin")
    user = (await auth.as_key(operator, "CreateUser", request)).user

    await auth.as_key(
        operator, "UpdateUser", pb.UpdateUserRequest(number=user.number, role="owner")
    )
    removed = await auth.as_key(operator, "RemoveUser", pb.RemoveUserRequest(number=owner.number))

    assert removed.keys_revoked == 1
    assert (await auth.world.owner_of(acme.key.tenant_id)).number == user.number
    listed = await auth.as_key(operator, "ListUsers", pb.ListUsersRequest(tenant="acme"))
    assert [user.email for user in listed.users] == ["bo@example.org"]


async def test_removed_users_keys_are_refused_for_good(auth: Auth, acme: MadeKey) -> None:
    user, first = await auth.world.user_with_key(acme, "member")
    made = pb.CreateKeyRequest(user_number=user.number, scopes=["tasks:read"])
    second = await auth.as_key(acme.secret, "CreateKey", made)

    removed = await auth.as_key(acme.secret, "RemoveUser", pb.RemoveUserRequest(number=user.number))

    assert removed.keys_revoked == 2
    assert removed.user.role == "member"
    for secret in (first.secret, second.secret):
        with pytest.raises(PawlError) as refused:
            await auth.stub.Authenticate(pb.AuthenticateRequest(api_key=secret))
        assert refused.value.code == "unauthenticated"
    assert user.number not in await roles(auth, acme.secret)
    for name, request in (
        ("UpdateUser", pb.UpdateUserRequest(number=user.number, role="admin")),
        ("RemoveUser", pb.RemoveUserRequest(number=user.number)),
        ("CreateKey", made),
    ):
        assert (await auth.refusal(acme.secret, name, request)).code == "not_found"


async def test_admin_removes_themself(auth: Auth, acme: MadeKey) -> None:
    user, admins = await auth.world.user_with_key(acme, "admin")

    await auth.as_key(admins.secret, "RemoveUser", pb.RemoveUserRequest(number=user.number))

    with pytest.raises(PawlError):
        await auth.stub.Authenticate(pb.AuthenticateRequest(api_key=admins.secret))


async def test_only_an_operator_removes_whose_key_is_an_operators(auth: Auth) -> None:
    operator = await auth.world.operator_key()
    owner = await auth.world.owner_of(operator.key.tenant_id)
    user, _ = await auth.world.user_with_key(operator, "admin")
    hand_over = pb.UpdateUserRequest(number=user.number, role="owner")
    await auth.as_key(operator.secret, "UpdateUser", hand_over)
    made = pb.CreateKeyRequest(user_number=user.number)
    owners = await auth.as_key(operator.secret, "CreateKey", made)

    refused = await auth.refusal(
        owners.secret, "RemoveUser", pb.RemoveUserRequest(number=owner.number)
    )

    assert refused.code == "insufficient_scope"
    assert "operator" in await scopes_of(auth, operator.secret)
    assert owner.number in await roles(auth, owners.secret)


async def test_another_tenants_user_is_as_unknown_as_nobody(auth: Auth, acme: MadeKey) -> None:
    other = await auth.world.key_of_new_tenant("other")
    theirs = await auth.world.owner_of(other.key.tenant_id)

    for name, foreign, nobody in (
        (
            "UpdateUser",
            pb.UpdateUserRequest(number=theirs.number, role="viewer"),
            pb.UpdateUserRequest(number=2**40, role="viewer"),
        ),
        (
            "RemoveUser",
            pb.RemoveUserRequest(number=theirs.number),
            pb.RemoveUserRequest(number=2**40),
        ),
        (
            "CreateKey",
            pb.CreateKeyRequest(user_number=theirs.number),
            pb.CreateKeyRequest(user_number=2**40),
        ),
    ):
        one = await auth.refusal(acme.secret, name, foreign)
        two = await auth.refusal(acme.secret, name, nobody)
        assert one.code == two.code == "not_found"
        assert one.message.replace(str(theirs.number), str(2**40)) == two.message


async def test_test_key_changes_no_people(auth: Auth, acme: MadeKey) -> None:
    user, _ = await auth.world.user_with_key(acme, "viewer")
    made = await auth.as_key(acme.secret, "CreateKey", pb.CreateKeyRequest(mode="test"))

    for name, request in (
        ("CreateUser", ANN),
        ("UpdateUser", pb.UpdateUserRequest(number=user.number, role="admin")),
        ("RemoveUser", pb.RemoveUserRequest(number=user.number)),
        ("RevokeKey", pb.RevokeKeyRequest(key_id=str(acme.key.id))),
    ):
        assert (await auth.refusal(made.secret, name, request)).code == "permission_denied"
    assert len(await roles(auth, made.secret)) == 2


async def test_changes_of_people_stand_in_the_audit_log(auth: Auth, acme: MadeKey) -> None:
    owner = await auth.world.owner_of(acme.key.tenant_id)
    user, made = await auth.world.user_with_key(acme, "viewer")
    number = user.number
    await auth.as_key(acme.secret, "UpdateUser", pb.UpdateUserRequest(number=number, role="owner"))
    operator = (await auth.world.operator_key()).secret
    same = pb.UpdateUserRequest(number=owner.number, role="admin")
    await auth.as_key(operator, "UpdateUser", same)  # it is so already
    await auth.as_key(
        operator, "UpdateUser", pb.UpdateUserRequest(number=owner.number, role="owner")
    )
    await auth.as_key(operator, "RemoveUser", pb.RemoveUserRequest(number=number))

    log = await auth.as_key(operator, "ListAudit", pb.ListAuditRequest(tenant="acme"))

    told = [
        (entry.action, entry.subject, json.loads(entry.details_json))
        for entry in reversed(log.entries)
        if entry.action.startswith("user.") or entry.subject == str(made.key.id)
    ]
    mail, owners_mail = {"email": "viewer@example.org"}, {"email": "acme@localhost"}
    assert [one for one in told if one[0].startswith("user.")] == [
        ("user.created", str(number), mail | {"role": "viewer"}),
        (
            "user.role_changed",
            str(owner.number),
            owners_mail | {"role_before": "owner", "role_after": "admin"},
        ),
        ("user.role_changed", str(number), mail | {"role_before": "viewer", "role_after": "owner"}),
        ("user.role_changed", str(number), mail | {"role_before": "owner", "role_after": "admin"}),
        (
            "user.role_changed",
            str(owner.number),
            owners_mail | {"role_before": "admin", "role_after": "owner"},
        ),
        ("user.removed", str(number), mail | {"role_before": "admin", "keys_revoked": 1}),
    ]
    assert [action for action, *_ in told if action.startswith("key.")] == [
        "key.created",
        "key.revoked",
    ]

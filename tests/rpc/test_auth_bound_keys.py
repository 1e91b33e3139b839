"""Keys that are bound to agents and definitions, and the users whose keys they are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from libs.core.ids import new_id
from libs.pb.pawl.auth.v1 import auth_pb2
from libs.pb.pawl.auth.v1 import auth_service_pb2 as pb
from libs.rpc.tokens import KeyRing
from services.auth.model import MadeKey
from tests.auth_world import Auth, auth_server, fields
from tests.servers import Database

pytestmark = pytest.mark.db

ONE, TWO, THREE = (str(UUID(int=2**100 + place)) for place in range(3))


@pytest.fixture
async def auth(database: Database, keys: KeyRing) -> AsyncIterator[Auth]:
    async with auth_server(database, keys) as auth:
        yield auth


@pytest.fixture
async def acme(auth: Auth) -> MadeKey:
    """A key of the owner of a tenant."""
    return await auth.world.key_of_new_tenant("acme")


def ids(*texts: str) -> auth_pb2.IdAllowList:
    return auth_pb2.IdAllowList(ids=texts)


async def test_token_carries_the_lists_of_its_key(auth: Auth, acme: MadeKey) -> None:
    spelled = ids(f"agent_{UUID(ONE).hex}", ONE.upper(), TWO)
    request = pb.CreateKeyRequest(allowed_agent_ids=spelled, allowed_task_ids=ids(f"task_{THREE}"))

    made = await auth.as_key(acme.secret, "CreateKey", request)

    assert list(made.key.allowed_agent_ids.ids) == [ONE, TWO]
    caller = await auth.world.caller(made.secret)
    assert caller.allowed_agent_ids == frozenset({ONE, TWO})
    assert caller.allowed_task_ids == frozenset({THREE})
    read = await auth.as_key(acme.secret, "GetKey", pb.GetKeyRequest(key_id=made.key.id))
    assert list(read.key.allowed_task_ids.ids) == [THREE]


async def test_two_full_lists_fit_a_call(auth: Auth, acme: MadeKey) -> None:
    """The metadata of a call, in which the token travels, may have 8 KiB."""
    lists = [ids(*(str(new_id()) for _ in range(100))) for _ in range(2)]
    request = pb.CreateKeyRequest(allowed_agent_ids=lists[0], allowed_task_ids=lists[1])
    made = await auth.as_key(acme.secret, "CreateKey", request)

    listed = await auth.as_key(made.secret, "ListKeys", pb.ListKeysRequest())

    [key] = [key for key in listed.keys if key.id == made.key.id]
    assert key.allowed_agent_ids == lists[0]
    assert key.allowed_task_ids == lists[1]


async def test_every_bad_id_is_named_by_its_place(auth: Auth, acme: MadeKey) -> None:
    request = pb.CreateKeyRequest(
        allowed_agent_ids=ids(ONE, "x"), allowed_task_ids=ids(*[ONE] * 101)
    )

    refused = await auth.refusal(acme.secret, "CreateKey", request)

    assert refused.code == "validation_failed"
    assert fields(refused) == [
        ("allowed_agent_ids[1]", "invalid_format"),
        ("allowed_task_ids", "out_of_range"),
    ]


async def test_bound_key_passes_its_list_on_or_a_narrower_one(auth: Auth, acme: MadeKey) -> None:
    request = pb.CreateKeyRequest(allowed_agent_ids=ids(ONE, TWO))
    bound = (await auth.as_key(acme.secret, "CreateKey", request)).secret

    inherited = await auth.as_key(bound, "CreateKey", pb.CreateKeyRequest())
    narrower = await auth.as_key(
        bound, "CreateKey", pb.CreateKeyRequest(allowed_agent_ids=ids(TWO))
    )
    wider = await auth.refusal(
        bound, "CreateKey", pb.CreateKeyRequest(allowed_agent_ids=ids(ONE, THREE))
    )

    assert set(inherited.key.allowed_agent_ids.ids) == {ONE, TWO}
    assert list(narrower.key.allowed_agent_ids.ids) == [TWO]
    assert wider.code == "permission_denied"
    assert THREE in wider.message
    assert ONE not in wider.message


async def test_empty_list_stays_empty(auth: Auth, acme: MadeKey) -> None:
    request = pb.CreateKeyRequest(allowed_task_ids=ids())
    bound = await auth.as_key(acme.secret, "CreateKey", request)

    inherited = await auth.as_key(bound.secret, "CreateKey", pb.CreateKeyRequest())

    for key in (bound.key, inherited.key):
        assert key.HasField("allowed_task_ids")
        assert list(key.allowed_task_ids.ids) == []
    assert (await auth.world.caller(inherited.secret)).allowed_task_ids == frozenset()


async def test_key_is_of_the_user_that_is_named(auth: Auth, acme: MadeKey) -> None:
    owner = await auth.world.owner_of(acme.key.tenant_id)
    user, made = await auth.world.user_with_key(acme, "member")

    keys = (await auth.as_key(acme.secret, "ListKeys", pb.ListKeysRequest())).keys

    assert {key.id: key.user_number for key in keys} == {
        str(acme.key.id): owner.number,
        str(made.key.id): user.number,
    }


async def test_last_use_is_shown(auth: Auth, acme: MadeKey) -> None:
    fresh = await auth.world.another_key(acme)

    keys = (await auth.as_key(acme.secret, "ListKeys", pb.ListKeysRequest())).keys

    used = {key.id: key.HasField("last_used_at") for key in keys}
    assert used == {str(acme.key.id): True, str(fresh.key.id): False}

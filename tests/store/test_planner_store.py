"""The schema of the planner on real PostgreSQL: its promises, its grants, what the store reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import psycopg
import pytest

from libs.core.json_schema import Validator
from libs.core.tool_spec import Effect, ToolExample, ToolSpec
from libs.db.engine import Pool, open_pool, refuse_privileged
from services.planner.store import NewTool, PlannerStore
from tests.servers import Database
from tests.unit.planner.shipped import EVERYTHING, LLM, MATH, WAIT, make_spec

pytestmark = pytest.mark.db

FIRST, SECOND = UUID(int=1), UUID(int=2)


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    pool = await open_pool(database.dsn("planner"), name="test-planner")
    yield pool
    await pool.close()


@pytest.fixture
async def store(pool: Pool) -> PlannerStore:
    return PlannerStore(pool)


async def register(
    store: PlannerStore,
    *specs: ToolSpec,
    executor_id: str = "e1",
    boot_id: UUID = FIRST,
    seconds: float = 60,
) -> datetime:
    tools = [NewTool(digest=spec.digest(), spec=spec) for spec in specs]
    return await store.register(
        tools, executor_id=executor_id, boot_id=boot_id, lifetime_seconds=seconds
    )


async def on_offer(store: PlannerStore) -> set[str]:
    return {digest for digest, seconds in (await store.read_catalog()).items() if seconds > 0}


async def as_owner(database: Database, statement: str) -> None:
    connection = await psycopg.AsyncConnection.connect(database.owner_dsn, autocommit=True)
    async with connection:
        await connection.execute(statement.encode())


async def test_tools_are_read_back_as_they_were_registered(store: PlannerStore) -> None:
    odd = make_spec(
        "odd",
        "1.0.0+build-7",
        description="Süß, “quoted”, with 100 % of a\nnew line.",
        input_schema={"type": "object", "properties": {"a": {"maximum": 1e22, "minimum": 1.5}}},
        effects=(Effect.SANDBOX, Effect.ARTIFACT),
        examples=(
            ToolExample(title="Größe", input={"a": 1e22}, output={"b": ["“"]}),
            ToolExample(title="None is shown", input={}),
        ),
    )
    await register(store, *EVERYTHING, odd)

    tools = await store.read_tools(list(await store.read_catalog()))

    by_name = {tool.spec.name: tool for tool in tools}
    assert {tool.spec.digest() for tool in tools} == {s.digest() for s in (*EVERYTHING, odd)}
    assert by_name["llm"].spec == LLM
    assert by_name["math"].spec == MATH
    assert by_name["odd"].spec.description == odd.description
    assert by_name["odd"].spec.effects == odd.effects
    assert by_name["odd"].spec.examples == odd.examples
    assert all(tool.ref.digest == tool.spec.digest() for tool in tools)
    assert isinstance(by_name["math"].input_validator, Validator)


async def test_an_offer_lives_as_long_as_said_by_the_clock_of_the_database(
    store: PlannerStore,
) -> None:
    expires_at = await register(store, MATH, seconds=60)

    left = (await store.read_catalog())[MATH.digest()]

    assert 55 < left <= 60
    assert abs((expires_at - datetime.now(UTC)).total_seconds() - 60) < 5


async def test_a_lapsed_offer_leaves_the_tool_known(store: PlannerStore) -> None:
    await register(store, MATH, seconds=-1)

    assert await store.read_catalog() == {MATH.digest(): 0.0}


async def test_renewing_prolongs_and_the_longest_offer_counts(store: PlannerStore) -> None:
    await register(store, MATH, seconds=5)
    await register(store, MATH, seconds=50)
    await register(store, MATH, executor_id="e2", seconds=20)

    assert (await store.read_catalog())[MATH.digest()] > 40


async def test_what_an_executor_no_longer_offers_ends(store: PlannerStore) -> None:
    await register(store, MATH, WAIT)
    await register(store, WAIT)

    assert await on_offer(store) == {WAIT.digest()}


async def test_a_new_boot_takes_the_place_of_the_old_one(store: PlannerStore) -> None:
    await register(store, MATH, WAIT, boot_id=FIRST)
    await register(store, WAIT, boot_id=SECOND)
    assert await on_offer(store) == {WAIT.digest()}

    await store.withdraw(executor_id="e1", boot_id=FIRST)

    assert await on_offer(store) == {WAIT.digest()}


async def test_withdrawing_ends_one_executor_s_offer_only(store: PlannerStore) -> None:
    await register(store, MATH, executor_id="e1")
    await register(store, WAIT, executor_id="e2")

    await store.withdraw(executor_id="e1", boot_id=FIRST)
    await store.withdraw(executor_id="nobody", boot_id=FIRST)

    assert await on_offer(store) == {WAIT.digest()}
    assert set(await store.read_catalog()) == {MATH.digest(), WAIT.digest()}


async def test_offers_that_lapsed_long_ago_are_swept(store: PlannerStore, pool: Pool) -> None:
    await register(store, MATH, executor_id="gone", seconds=-3600)

    await register(store, MATH, executor_id="e1")

    async with pool.connection() as connection:
        cursor = await connection.execute("SELECT executor_id FROM planner.registrations")
        rows = await cursor.fetchall()
    assert [row["executor_id"] for row in rows] == ["e1"]


async def test_the_first_registration_of_a_tool_stays(store: PlannerStore) -> None:
    await register(store, make_spec("odd", description="first"))
    await register(store, make_spec("odd", description="second"), executor_id="e2")

    [tool] = await store.read_tools(list(await store.read_catalog()))

    assert tool.spec.description == "first"


async def test_a_tool_gets_examples_once(store: PlannerStore) -> None:
    one, other = (
        (ToolExample(title=title, input={"a": 1.5}, output={"b": None}),) for title in ("1", "2")
    )
    await register(store, make_spec("odd"))
    for examples in (one, (), other):
        await register(store, make_spec("odd", examples=examples), executor_id="e2")

    [tool] = await store.read_tools(list(await store.read_catalog()))

    assert tool.spec.examples == one


async def test_many_executors_bring_examples_at_once(store: PlannerStore) -> None:
    examples = (ToolExample(title="fails", input={}, failure_code="TOOL_ERROR"),)
    specs = [make_spec(f"odd{n}", examples=examples) for n in range(8)]
    await register(store, *(replace(spec, examples=()) for spec in specs))

    await asyncio.gather(
        *(register(store, *specs[:: (-1) ** n], executor_id=f"e{n}") for n in range(8))
    )

    tools = await store.read_tools(list(await store.read_catalog()))
    assert [tool.spec.examples for tool in tools] == [examples] * 8


async def test_examples_that_stand_are_not_changed(store: PlannerStore, pool: Pool) -> None:
    await register(store, make_spec("odd", examples=(ToolExample(title="1", input={}),)))

    async with pool.connection() as connection:
        with pytest.raises(psycopg.errors.CheckViolation, match="has examples already"):
            await connection.execute("UPDATE planner.tools SET examples = '[{}]'")


async def test_the_same_version_with_another_promise_is_another_tool(store: PlannerStore) -> None:
    await register(store, make_spec("odd"))
    await register(store, make_spec("odd", output_schema={}), executor_id="e2")

    assert len(await on_offer(store)) == 2


async def test_many_executors_register_the_same_tools_at_once(store: PlannerStore) -> None:
    mixed = [EVERYTHING, tuple(reversed(EVERYTHING))] * 4

    await asyncio.gather(
        *(register(store, *specs, executor_id=f"e{n}") for n, specs in enumerate(mixed))
    )

    assert await on_offer(store) == {spec.digest() for spec in EVERYTHING}


async def test_the_service_s_role_is_not_privileged(pool: Pool) -> None:
    await refuse_privileged(pool, "planner")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE planner.tools SET description = 'other'",
        "UPDATE planner.tools SET input_schema = '{}'",
        "DELETE FROM planner.tools",
        "TRUNCATE planner.registrations",
        "UPDATE planner.registrations SET executor_id = 'other'",
        "DROP TABLE planner.tools",
        "CREATE TABLE planner.more (a int)",
    ],
)
async def test_the_service_may_not_change_what_stands(
    store: PlannerStore, pool: Pool, statement: str
) -> None:
    await register(store, MATH)

    async with pool.connection() as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await connection.execute(statement.encode())


@pytest.mark.parametrize(
    ("changes", "promise"),
    [
        ("digest = 'short'", "tools_digest_is_sha256"),
        ("name = 'Math'", "tools_name_is_plain"),
        ("version = '1@2'", "tools_version_is_plain"),
        ("description = ''", "tools_description_is_short"),
        ("examples = repeat(' ', 32769)", "tools_examples_are_bounded"),
        ("effects = ARRAY['magic']", "tools_effects_are_known"),
        ("effects = ARRAY[]::text[]", "tools_effects_are_known"),
    ],
)
async def test_what_is_no_tool_cannot_be_stored(
    store: PlannerStore, database: Database, changes: str, promise: str
) -> None:
    # A tool that nobody registered, so that only the promise itself can stand in the way.
    await register(store, MATH)
    await store.withdraw(executor_id="e1", boot_id=FIRST)

    with pytest.raises(psycopg.errors.CheckViolation) as caught:
        await as_owner(database, f"UPDATE planner.tools SET {changes}")

    assert caught.value.diag.constraint_name == promise


async def test_an_offer_names_a_known_tool(database: Database) -> None:
    insert = f"""
        INSERT INTO planner.registrations (executor_id, boot_id, digest, expires_at)
        VALUES ('e', '{FIRST}', '{"0" * 64}', now())
    """

    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        await as_owner(database, insert)

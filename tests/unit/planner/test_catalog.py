from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from libs.core.errors import PawlError
from libs.core.tool_spec import ToolExample, ToolSpec
from services.planner.catalog import MAX_AGE_SECONDS, Catalog
from services.planner.model import Absence, CatalogTool, Offer
from services.planner.store import NewTool
from tests.unit.planner.fakes import FakeCatalogStore, HeldClock
from tests.unit.planner.shipped import MATH, OFFLINE, make_spec

BOOT = UUID(int=1)


class World:
    def __init__(self) -> None:
        self.clock = HeldClock()
        self.store = FakeCatalogStore(self.clock)
        self.catalog = Catalog(self.store, clock=self.clock)

    async def offer(self, *specs: ToolSpec, executor_id: str = "e1", boot_id: UUID = BOOT) -> None:
        await self.catalog.register(Offer(executor_id=executor_id, boot_id=boot_id, tools=specs))

    async def find(self, name: str) -> str | Absence:
        found = (await self.catalog.snapshot()).find(name, now=self.clock.monotonic())
        return found.ref.version if isinstance(found, CatalogTool) else found


@pytest.fixture
def world() -> World:
    return World()


async def test_a_registered_tool_is_found_at_once(world: World) -> None:
    assert await world.find("math") is Absence.UNKNOWN

    await world.offer(MATH)

    assert await world.find("math") == "1.0.0"


async def test_the_newest_version_on_offer_is_taken(world: World) -> None:
    newer, newest = make_spec("math", "1.9.0"), make_spec("math", "1.10.0")
    await world.offer(MATH, newer)
    await world.offer(newest, executor_id="e2")

    assert await world.find("math") == "1.10.0"
    await world.catalog.withdraw(executor_id="e2", boot_id=BOOT)
    assert await world.find("math") == "1.9.0"


async def test_an_offer_lapses_without_another_reading(world: World) -> None:
    await world.offer(MATH)
    snapshot = await world.catalog.snapshot()
    end = world.clock.monotonic() + 60

    assert isinstance(snapshot.find("math", now=end - 0.1), CatalogTool)
    assert snapshot.find("math", now=end) is Absence.UNAVAILABLE


async def test_a_withdrawn_tool_is_unavailable_not_unknown(world: World) -> None:
    await world.offer(MATH)

    await world.catalog.withdraw(executor_id="e1", boot_id=BOOT)

    assert await world.find("math") is Absence.UNAVAILABLE


async def test_the_store_is_read_at_most_once_a_second_and_never_unasked(world: World) -> None:
    await world.offer(*OFFLINE)
    for _ in range(100):
        await world.catalog.snapshot()
    assert (world.store.catalog_reads, world.store.tool_reads) == (1, [len(OFFLINE)])

    world.clock.seconds += MAX_AGE_SECONDS + 0.01
    await asyncio.gather(*(world.catalog.snapshot() for _ in range(50)))

    assert (world.store.catalog_reads, world.store.tool_reads) == (2, [len(OFFLINE)])


async def test_what_another_instance_registers_is_seen_after_a_second(world: World) -> None:
    other = Catalog(world.store, clock=world.clock)
    assert await world.find("math") is Absence.UNKNOWN

    await other.register(Offer(executor_id="e2", boot_id=BOOT, tools=(MATH,)))
    world.clock.seconds += MAX_AGE_SECONDS + 0.01

    assert await world.find("math") == "1.0.0"


async def test_a_reading_that_a_change_overtakes_is_not_kept(world: World) -> None:
    await world.offer(MATH)
    entered, go_on = asyncio.Event(), asyncio.Event()
    read = world.store.read_catalog

    class SlowStore(FakeCatalogStore):
        async def read_catalog(self) -> dict[str, float]:
            found = await read()
            entered.set()
            await go_on.wait()
            return found

        async def read_tools(self, digests: Any) -> list[CatalogTool]:
            return await world.store.read_tools(digests)

        async def register(self, tools: Any, **offer: Any) -> Any:
            return await world.store.register(tools, **offer)

    catalog = Catalog(SlowStore(world.clock), clock=world.clock)
    reading = asyncio.create_task(catalog.snapshot())
    await entered.wait()
    newer = make_spec("math", "2.0.0")
    await catalog.register(Offer(executor_id="e2", boot_id=BOOT, tools=(newer,)))
    go_on.set()
    await reading

    found = (await catalog.snapshot()).find("math", now=world.clock.monotonic())

    assert isinstance(found, CatalogTool)
    assert found.ref.version == "2.0.0"


async def test_examples_that_a_known_tool_gets_are_seen(world: World) -> None:
    await world.offer(MATH)
    await world.catalog.snapshot()
    example = ToolExample(title="A sum", input={"expression": "1+1"}, output={"result": 2})
    await world.offer(replace(MATH, examples=(example,)))

    page = await world.catalog.list(page_size=0, page_token="")

    assert page.tools[0].tool.spec.examples == (example,)


async def test_a_failed_reading_is_not_kept(world: World) -> None:
    class FailingStore(FakeCatalogStore):
        failing = True

        async def read_catalog(self) -> dict[str, float]:
            if self.failing:
                raise ConnectionError("gone")
            return await super().read_catalog()

    store = FailingStore(world.clock)
    catalog = Catalog(store, clock=world.clock)
    with pytest.raises(ConnectionError):
        await catalog.snapshot()

    store.failing = False

    assert (await catalog.snapshot()).by_name == {}


async def test_the_list_is_paged_by_name_newest_version_first(world: World) -> None:
    specs = [make_spec("math", f"1.{minor}.0") for minor in range(5)]
    await world.offer(*specs, make_spec("alpha"), make_spec("zeta"))
    await world.catalog.withdraw(executor_id="e1", boot_id=BOOT)
    await world.offer(specs[0], executor_id="e2")
    seen: list[tuple[str, str, bool]] = []
    token = ""
    while True:
        page = await world.catalog.list(page_size=2, page_token=token)
        seen.extend((t.tool.ref.name, t.tool.ref.version, t.available) for t in page.tools)
        token = page.next_page_token
        if not token:
            break

    assert seen == [
        ("alpha", "1.0.0", False),
        *(("math", f"1.{minor}.0", minor == 0) for minor in (4, 3, 2, 1, 0)),
        ("zeta", "1.0.0", False),
    ]


@pytest.mark.parametrize(
    ("size", "token", "code"),
    [
        (0, "nonsense", "invalid_cursor"),
        (201, "", "validation_failed"),
        (-1, "", "validation_failed"),
    ],
)
async def test_bad_pages_are_refused(world: World, size: int, token: str, code: str) -> None:
    with pytest.raises(PawlError) as caught:
        await world.catalog.list(page_size=size, page_token=token)

    assert caught.value.code == code


BAD_OFFERS: list[tuple[dict[str, Any], str, str]] = [
    ({"executor_id": ""}, "executor_id", "validation_failed"),
    ({"executor_id": "e" * 129}, "executor_id", "validation_failed"),
    ({"executor_id": "e\x00"}, "executor_id", "validation_failed"),
    ({"tools": ()}, "tools", "validation_failed"),
    ({"tools": (MATH, MATH)}, "tools[1]", "validation_failed"),
    ({"tools": (make_spec("Math"),)}, "tools[0].name", "validation_failed"),
    ({"tools": (make_spec("m" * 65),)}, "tools[0].name", "validation_failed"),
    ({"tools": (make_spec("m-n"),)}, "tools[0].name", "validation_failed"),
    ({"tools": (make_spec("math", ""),)}, "tools[0].version", "validation_failed"),
    ({"tools": (make_spec("math", "1@2"),)}, "tools[0].version", "validation_failed"),
    ({"tools": (make_spec("math", description=""),)}, "tools[0].description", "validation_failed"),
    ({"tools": (make_spec("math", effects=()),)}, "tools[0].effects", "validation_failed"),
    (
        {"tools": (make_spec("math", input_schema={"$ref": "http://h/x"}),)},
        "tools[0].input_schema_json",
        "remote_ref_forbidden",
    ),
    (
        {"tools": (make_spec("math", examples=(ToolExample(title="", input={}),)),)},
        "tools[0].examples[0]",
        "validation_failed",
    ),
    (
        {"tools": (make_spec("math", examples=(ToolExample(title="a", input={}),) * 11),)},
        "tools[0].examples",
        "validation_failed",
    ),
    (
        {"tools": (make_spec("math", output_schema={"$ref": "#"}),)},
        "tools[0].output_schema_json",
        "schema_recursion",
    ),
    (
        {"tools": (make_spec("math", input_schema={"pattern": "a?" * 5000}),)},
        "tools[0].input_schema_json",
        "schema_limit",
    ),
]


@pytest.mark.parametrize(("changes", "field", "fine"), BAD_OFFERS)
async def test_bad_offers_are_refused_and_leave_nothing(
    world: World, changes: dict[str, Any], field: str, fine: str
) -> None:
    fields: dict[str, Any] = {"executor_id": "e", "boot_id": BOOT, "tools": (MATH,)}
    offer = Offer(**(fields | changes))

    with pytest.raises(PawlError) as caught:
        await world.catalog.register(offer)

    assert caught.value.code == "validation_failed"
    assert (caught.value.errors[0].field, caught.value.errors[0].code) == (field, fine)
    assert await world.store.read_catalog() == {}


async def test_digests_are_computed_here(world: World) -> None:
    stored: list[NewTool] = []

    class Recording(FakeCatalogStore):
        async def register(self, tools: Any, **offer: Any) -> Any:
            stored.extend(tools)
            return await super().register(tools, **offer)

    catalog = Catalog(Recording(world.clock), clock=world.clock)
    await catalog.register(Offer(executor_id="e", boot_id=BOOT, tools=(MATH,)))

    assert [tool.digest for tool in stored] == [MATH.digest()]

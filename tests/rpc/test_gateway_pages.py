"""Pages for people at addresses that Pawl does not serve yet."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from gateway.app import ROUTERS
from gateway.route import Route
from libs.rpc.tokens import KeyRing
from tests.gateway_world import GatewayWorld, gateway_world
from tests.html_page import read_page


@pytest_asyncio.fixture(scope="module")
async def world(keys: KeyRing) -> AsyncIterator[GatewayWorld]:
    async with gateway_world(keys) as started:
        yield started


@pytest.mark.parametrize(
    ("path", "title"),
    [("/dashboard", "There is no dashboard here yet"), ("/billing", "Nothing is billed here")],
)
async def test_a_page_says_what_is_not_there(world: GatewayWorld, path: str, title: str) -> None:
    answer = await world.http.get(path)

    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert answer.headers["x-request-id"].startswith("req_")
    assert read_page(answer.text).one("h1").text == title


@pytest.mark.parametrize("path", ["/dashboard", "/billing"])
async def test_routes_that_a_page_names_are_there(world: GatewayWorld, path: str) -> None:
    page = (await world.http.get(path)).text
    named = set(re.findall(r"/(?:api/)?v1/[a-z/]+", page))

    assert named
    routes = (route for router in ROUTERS for route in router.routes)
    assert named <= {route.path for route in routes if isinstance(route, Route)}


async def test_a_page_is_only_read(world: GatewayWorld) -> None:
    answer = await world.http.post("/billing")

    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, OPTIONS")

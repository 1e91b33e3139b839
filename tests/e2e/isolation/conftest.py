"""Accounts beside the one that is asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from libs.cli.stack import Stack
from tests.e2e.isolation.account import Account, account


@pytest_asyncio.fixture(scope="module")
async def other(stack: Stack) -> AsyncIterator[Account]:
    """Another account."""
    async with account(stack) as made:
        yield made


@pytest_asyncio.fixture(scope="module")
async def spent(stack: Stack) -> AsyncIterator[Account]:
    """An account whose own keys do what they may."""
    async with account(stack) as made:
        del made.things["WAITING"]
        yield made

"""Every test of a store runs against each PostgreSQL server that this machine has."""

from __future__ import annotations

import pytest

from tests.servers import SYSTEM_BINARIES

_SYSTEM = pytest.param(
    "system",
    marks=pytest.mark.skipif(
        not SYSTEM_BINARIES,
        reason="no server in /usr/lib/postgresql (Debian: apt install postgresql)",
    ),
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give the fixture `server`, and `database` through it, one value per kind of server."""
    if "server" in metafunc.fixturenames:
        metafunc.parametrize("server", ["wheel", _SYSTEM], indirect=True)

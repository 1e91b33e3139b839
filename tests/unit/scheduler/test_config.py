"""Settings name every mistake at once."""

from __future__ import annotations

import pytest

from libs.process.env import ConfigError
from services.scheduler.config import Settings

GOOD = {
    "PAWL_SCHEDULER_DATABASE_URL": "postgresql://x/y",
    "PAWL_PLANNER_TARGET": "127.0.0.1:1",
    "PAWL_SERVICE_KEY_FILE": "/k",
    "PAWL_PUBLIC_KEYS_FILE": "/p",
}


def test_defaults() -> None:
    settings = Settings.from_env(GOOD)

    assert (settings.listen, settings.lease_seconds, settings.bus.driver) == (
        "127.0.0.1:0",
        10,
        "postgres",
    )


def test_every_mistake_is_named() -> None:
    with pytest.raises(ConfigError) as refused:
        Settings.from_env({"PAWL_LEASE_SECONDS": "1", "PAWL_BUS": "pigeon", "PAWL_LISTEN": "x"})

    said = str(refused.value)
    for name in (*GOOD, "PAWL_LEASE_SECONDS", "PAWL_BUS", "PAWL_LISTEN"):
        assert name in said

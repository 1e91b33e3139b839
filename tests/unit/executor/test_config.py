"""Settings of the executor."""

from __future__ import annotations

import pytest

from libs.net.refusals import EgressDenied
from libs.net.urls import read_url
from libs.process.env import ConfigError
from services.executor.config import Settings

REQUIRED = {
    "PAWL_SERVICE_KEY_FILE": "/keys/executor.jwk",
    "PAWL_PUBLIC_KEYS_FILE": "/keys/public.json",
    "PAWL_PLANNER_TARGET": "planner:1",
    "PAWL_SCHEDULER_TARGET": "scheduler:2",
    "PAWL_ARTIFACT_TARGET": "artifact:3",
}


def test_settings_have_defaults() -> None:
    settings = Settings.from_env(REQUIRED)

    assert settings.executor_id
    # Those who stop a process wait 10 s before they kill it.
    assert (settings.slots, settings.children, settings.drain_seconds) == (32, 3, 8.0)


def test_settings_hold_what_egress_allows() -> None:
    settings = Settings.from_env(REQUIRED | {"PAWL_EGRESS_ALLOW": "wiki.corp:8080, 10.0.0.0/8"})

    settings.egress.check_url(read_url("http://wiki.corp:8080/"))
    settings.egress.check_url(read_url("http://10.1.2.3:9200/"))
    with pytest.raises(EgressDenied):
        Settings.from_env(REQUIRED).egress.check_url(read_url("http://10.1.2.3/"))


def test_settings_name_what_egress_cannot_allow() -> None:
    with pytest.raises(ConfigError) as refused:
        Settings.from_env(REQUIRED | {"PAWL_EGRESS_ALLOW": "wiki.corp,https://x"})

    assert "PAWL_EGRESS_ALLOW has the entry 'https://x': " in str(refused.value)


def test_settings_name_every_mistake() -> None:
    with pytest.raises(ConfigError) as refused:
        Settings.from_env(
            {
                "PAWL_EXECUTOR_SLOTS": "1001",
                "PAWL_EXECUTOR_CHILDREN": "0",
                "PAWL_PLANNER_TARGET": "nowhere",
            }
        )

    for name in (*REQUIRED, "PAWL_EXECUTOR_SLOTS", "PAWL_EXECUTOR_CHILDREN"):
        assert name in str(refused.value)

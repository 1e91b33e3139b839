"""Settings of the executor."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from libs.core.prices import PRICES
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


def test_settings_have_the_price_table_that_is_shipped() -> None:
    assert Settings.from_env(REQUIRED).prices == PRICES


def test_settings_read_a_price_table(tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    file.write_text("step_usd = 1\nsandbox_second_usd = 0.5\nthousand_tokens_usd = 0\n", "utf-8")

    prices = Settings.from_env(REQUIRED | {"PAWL_PRICES": str(file)}).prices

    assert (prices.step_usd, prices.sandbox_second_usd) == (Decimal(1), Decimal("0.5"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        (b"\xff", "cannot be read"),
        (b"step_usd = -1", "is no price table"),
    ],
)
def test_settings_name_a_price_table_that_is_none(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    file = tmp_path / "prices.toml"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(ConfigError) as refused:
        Settings.from_env(REQUIRED | {"PAWL_PRICES": str(file)})

    assert f"PAWL_PRICES names a file that {said}" in str(refused.value)


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

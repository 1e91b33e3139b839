from __future__ import annotations

import pytest

from libs.process.env import ConfigError
from services.planner.config import Settings

GOOD = {
    "PAWL_PLANNER_DATABASE_URL": "postgresql://pawl_planner:secret@localhost/pawl",
    "PAWL_PUBLIC_KEYS_FILE": "/run/pawl/public_keys.json",
}


def test_settings_have_defaults_and_hide_the_password() -> None:
    settings = Settings.from_env(GOOD)

    assert settings.listen == settings.metrics_listen == "127.0.0.1:0"
    assert settings.log_level == "info"
    assert "secret" not in repr(settings)


def test_every_bad_variable_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.from_env({"PAWL_LISTEN": "nowhere", "PAWL_LOG_LEVEL": "loud"})

    for name in ("PAWL_LISTEN", "PAWL_LOG_LEVEL", *GOOD):
        assert name in str(caught.value)

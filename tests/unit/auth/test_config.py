"""Settings name every bad variable at once and keep the password out of sight."""

from __future__ import annotations

import pytest

from libs.process.env import ConfigError
from services.auth.config import CommandSettings, Settings

GOOD = {
    "PAWL_LISTEN": "127.0.0.1:50051",
    "PAWL_METRICS_LISTEN": "127.0.0.1:9100",
    "PAWL_AUTH_DATABASE_URL": "postgresql://pawl_auth:hunter2@/pawl",
    "PAWL_SERVICE_KEY_FILE": "/data/service_auth.jwk",
    "PAWL_PUBLIC_KEYS_FILE": "/data/public_keys.json",
    "PAWL_LOG_LEVEL": "debug",
    "PAWL_BUS": "postgres",
}


def test_settings_read_everything() -> None:
    settings = Settings.from_env(GOOD)

    assert settings.listen == "127.0.0.1:50051"
    assert settings.service_key_file.name == "service_auth.jwk"
    assert settings.log_level == "debug"


def test_password_is_not_shown() -> None:
    assert "hunter2" not in repr(Settings.from_env(GOOD))
    assert "hunter2" not in repr(CommandSettings.from_env(GOOD))


def test_every_mistake_is_named_together() -> None:
    bad = {"PAWL_LISTEN": "nowhere", "PAWL_LOG_LEVEL": "loud", "PAWL_BUS": "pigeons"}

    with pytest.raises(ConfigError) as refused:
        Settings.from_env(bad)

    for name in (*bad, "PAWL_AUTH_DATABASE_URL", "PAWL_SERVICE_KEY_FILE", "PAWL_PUBLIC_KEYS_FILE"):
        assert name in str(refused.value)


def test_commands_need_the_database_only() -> None:
    assert CommandSettings.from_env({"PAWL_AUTH_DATABASE_URL": "x"}).log_level == "info"
    with pytest.raises(ConfigError, match="PAWL_AUTH_DATABASE_URL"):
        CommandSettings.from_env({})

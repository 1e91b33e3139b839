from __future__ import annotations

import pytest

from libs.process.env import ConfigError
from services.artifact.config import Settings

GOOD = {
    "PAWL_ARTIFACT_DATABASE_URL": "postgresql://pawl_artifact:hush@localhost/pawl",
    "PAWL_SERVICE_KEY_FILE": "/keys/service_artifact.jwk",
    "PAWL_PUBLIC_KEYS_FILE": "/keys/public_keys.json",
}


def test_settings_have_defaults_for_what_is_not_secret() -> None:
    settings = Settings.from_env(GOOD)

    assert (settings.listen, settings.log_level) == ("127.0.0.1:0", "info")
    assert "hush" not in repr(settings)


def test_settings_name_every_mistake_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.from_env({"PAWL_BUS": "rabbit", "PAWL_LISTEN": "here"})

    for name in (*GOOD, "PAWL_BUS", "PAWL_LISTEN"):
        assert name in str(caught.value)

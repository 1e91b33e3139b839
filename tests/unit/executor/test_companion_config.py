"""Settings of the sandbox beside executors."""

from __future__ import annotations

from pathlib import Path

import pytest

from libs.process.env import ConfigError
from services.executor.companion.config import Settings
from services.executor.sandbox.installation import installation_of

GIVEN = {"PAWL_PUBLIC_KEYS_FILE": "/run/pawl/public_keys.json"}


def test_keys_are_enough() -> None:
    settings = Settings.from_env(GIVEN)

    assert settings.engine == "unix:///var/run/docker.sock"
    assert (settings.runtime, settings.guests) == ("", 4)
    assert settings.tls is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DOCKER_HOST", "ssh://host"),
        ("DOCKER_HOST", "/var/run/docker.sock"),
        ("DOCKER_TLS_VERIFY", "1"),
        ("PAWL_SANDBOX_GUESTS", "0"),
        ("PAWL_SANDBOX_GUESTS", "65"),
        ("PAWL_LISTEN", "sandbox"),
        ("PAWL_PUBLIC_KEYS_FILE", ""),
        ("PAWL_TLS_CA_FILE", "/run/pawl/ca.crt"),
    ],
)
def test_every_mistake_is_named(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name if name != "PAWL_TLS_CA_FILE" else "PAWL_TLS_CERT"):
        Settings.from_env(GIVEN | {name: value})


def test_installations_have_names_of_their_own(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.json", tmp_path / "theirs.json"
    ours.write_text('{"keys": [1]}')
    theirs.write_text('{"keys": [2]}')

    assert installation_of(ours) == installation_of(ours)
    assert installation_of(ours) != installation_of(theirs)
    with pytest.raises(ConfigError, match=r"nowhere\.json"):
        installation_of(tmp_path / "nowhere.json")


@pytest.mark.parametrize("listen", ["0.0.0.0:7000", "[::]:7000", "sandbox:7000", "10.0.0.7:7000"])
def test_beyond_loopback_certificates_are_required(listen: str) -> None:
    with pytest.raises(ConfigError, match=r"PAWL_LISTEN .* PAWL_TLS_CA_FILE"):
        Settings.from_env(GIVEN | {"PAWL_LISTEN": listen})

    files = {"PAWL_TLS_CA_FILE": "ca", "PAWL_TLS_CERT_FILE": "crt", "PAWL_TLS_KEY_FILE": "key"}
    assert Settings.from_env(GIVEN | files | {"PAWL_LISTEN": listen}).listen == listen


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "[::1]:7000", "localhost:7000"])
def test_on_loopback_it_may_do_without(listen: str) -> None:
    assert Settings.from_env(GIVEN | {"PAWL_LISTEN": listen}).tls is None

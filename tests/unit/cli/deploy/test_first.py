"""The first start in containers: everything secret is made once, and each process sees its own."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from libs.cli.deploy import first
from libs.cli.deploy.first import prepare
from libs.cli.deploy.installation import DeploySettings
from libs.cli.up.service_keys import keys_are_whole
from libs.process.env import ConfigError
from libs.rpc.tls import TlsFiles, load_identity
from libs.rpc.tokens import SERVICES

pytestmark = pytest.mark.skipif(
    os.getuid() != 0, reason="the first start runs as root, to give files to others"
)

IDENTITY = {"ca.crt", "tls.crt", "tls.key"}
EVERY_SERVICE = IDENTITY | {"public_keys.json", "service.jwk"}
S3_KEYS = {"s3_access_key", "s3_secret_key"}


@pytest.fixture
def settings(tmp_path: Path) -> DeploySettings:
    return DeploySettings.from_env(
        {
            "PAWL_INSTALLATION_DIR": str(tmp_path / "installation"),
            "PAWL_HAND_OUT_DIR": str(tmp_path / "given"),
        }
    )


def given(settings: DeploySettings) -> dict[str, bytes]:
    files = (path for path in settings.place.rglob("*") if path.is_file())
    return {str(path.relative_to(settings.place)): path.read_bytes() for path in files}


def test_each_holder_is_given_its_own_and_nothing_else(settings: DeploySettings) -> None:
    prepare(settings)

    names = {
        directory.name: {path.name for path in directory.iterdir()}
        for directory in settings.place.iterdir()
    }
    assert names == {
        "postgres": {"password"},
        "s3": S3_KEYS,
        "client": IDENTITY,
        "artifact": EVERY_SERVICE | S3_KEYS,
        **{name: EVERY_SERVICE for name in SERVICES if name != "artifact"},
    }


def test_holders_are_the_users_of_their_containers(settings: DeploySettings) -> None:
    prepare(settings)

    owners = {path.name: path.stat().st_uid for path in settings.place.iterdir()}
    assert owners.pop("postgres") == 999
    assert owners.pop("s3") == 0
    assert set(owners.values()) == {65532}


def test_each_service_can_show_its_name(settings: DeploySettings) -> None:
    prepare(settings)

    for name in SERVICES:
        place = settings.place / name
        files = TlsFiles(ca=place / "ca.crt", certificate=place / "tls.crt", key=place / "tls.key")
        assert load_identity(files).names == (name,)


def test_a_second_start_changes_nothing(
    settings: DeploySettings, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(settings)
    before = given(settings)
    capsys.readouterr()

    prepare(settings)

    assert given(settings) == before
    assert capsys.readouterr().out == ""


def test_two_installations_have_nothing_secret_in_common(
    settings: DeploySettings, tmp_path: Path
) -> None:
    elsewhere = DeploySettings.from_env(
        {
            "PAWL_INSTALLATION_DIR": str(tmp_path / "other"),
            "PAWL_HAND_OUT_DIR": str(tmp_path / "other-given"),
        }
    )

    prepare(settings)
    prepare(elsewhere)

    here, there = given(settings), given(elsewhere)
    assert here.keys() == there.keys()
    assert [name for name in here if here[name] == there[name]] == []


@pytest.mark.parametrize(
    "half_written",
    [
        "secrets/postgres_password",
        "secrets/service_auth.jwk",
        "secrets/public_keys.json",
        "secrets/tls/ca.crt",
        "secrets/tls/auth.key",
        "secrets/s3_secret_key",
    ],
)
def test_what_a_killed_start_left_half_is_made_again(
    settings: DeploySettings, half_written: str
) -> None:
    prepare(settings)
    path = settings.installation.path / half_written
    path.write_bytes(b"")

    prepare(settings)

    assert path.stat().st_size > 0
    assert keys_are_whole(settings.installation.secrets, services=SERVICES)
    handed = given(settings)
    kept = settings.installation.secrets
    assert handed["postgres/password"] == (kept / "postgres_password").read_bytes()
    assert handed["auth/tls.key"] == (kept / "tls" / "auth.key").read_bytes()
    assert handed["auth/service.jwk"] == (kept / "service_auth.jwk").read_bytes()
    assert handed["artifact/s3_secret_key"] == (kept / "s3_secret_key").read_bytes()


def test_a_lost_volume_is_filled_again(settings: DeploySettings) -> None:
    prepare(settings)
    before = given(settings)
    for path in (settings.place / "auth").iterdir():
        path.unlink()

    prepare(settings)

    assert given(settings) == before


@pytest.mark.parametrize("lost", ["all of it", "postgres_password", "s3_access_key"])
def test_a_lost_installation_locks_nobody_out_of_the_servers(
    settings: DeploySettings, lost: str
) -> None:
    prepare(settings)
    before = given(settings)
    if lost == "all of it":
        shutil.rmtree(settings.installation.path)
    else:
        (settings.installation.secrets / lost).unlink()

    prepare(settings)

    # PostgreSQL keeps its first password, the bucket its owner: new ones would not be let in.
    remembered = {"postgres/password", *(f"s3/{name}" for name in S3_KEYS)}
    after = given(settings)
    assert {name: after[name] for name in remembered} == {name: before[name] for name in remembered}
    assert settings.kept("postgres_password") == before["postgres/password"].decode().strip()


def test_two_first_starts_do_not_run_at_once(settings: DeploySettings) -> None:
    settings.installation.create()

    with settings.installation.locked(), pytest.raises(ConfigError, match="already running"):
        prepare(settings)


def test_bad_settings_are_named_together(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PAWL_SERVICE_UID", "nobody")
    monkeypatch.setenv("PAWL_POSTGRES_UID", "-1")

    code = first.main()

    said = capsys.readouterr().err
    assert code == 2
    assert "PAWL_SERVICE_UID" in said
    assert "PAWL_POSTGRES_UID" in said

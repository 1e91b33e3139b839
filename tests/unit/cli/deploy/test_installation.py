"""What an installation in containers keeps, and who is given which part of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from libs.cli.deploy.installation import (
    HANDED_OUT,
    DeploySettings,
    holders_at_first,
    holders_with_database,
)
from libs.db.roles import SERVICES as WITH_DATABASE
from libs.process.env import ConfigError
from libs.rpc.certs import make_certificates
from libs.rpc.tokens import SERVICES, KeyRing

OWNER = "postgres_password"


@pytest.fixture
def settings(tmp_path: Path) -> DeploySettings:
    settings = DeploySettings.from_env(
        {
            "PAWL_INSTALLATION_DIR": str(tmp_path / "installation"),
            "PAWL_HAND_OUT_DIR": str(tmp_path / "given"),
        }
    )
    settings.installation.create()
    return settings


@pytest.fixture
def prepared(settings: DeploySettings) -> DeploySettings:
    KeyRing.generate().write(settings.installation.secrets)
    make_certificates(settings.tls)
    return settings


def test_settings_fit_the_compose_file_unless_others_are_given() -> None:
    settings = DeploySettings.from_env({})

    assert settings.installation.path == Path("/installation")
    assert settings.place == Path("/secrets")
    assert settings.database_host == "postgres"
    assert (settings.service_uid, settings.postgres_uid, settings.s3_uid) == (65532, 999, 0)


@pytest.mark.parametrize("name", ["PAWL_SERVICE_UID", "PAWL_POSTGRES_UID", "PAWL_S3_UID"])
@pytest.mark.parametrize("value", ["-1", "pawl"])
def test_a_user_that_is_no_number_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name):
        DeploySettings.from_env({name: value})


def test_a_secret_is_long_closed_to_others_and_stays(settings: DeploySettings) -> None:
    made = settings.kept("s3_secret_key")

    path = settings.installation.secrets / "s3_secret_key"
    assert len(made) >= 43
    assert path.stat().st_mode & 0o777 == 0o600
    assert settings.kept("s3_secret_key") == made
    assert settings.kept("s3_access_key") != made


@pytest.mark.parametrize("rubbish", [b"", b"\n", "ä".encode("latin-1")])
def test_an_emptied_secret_is_made_again(settings: DeploySettings, rubbish: bytes) -> None:
    (settings.installation.secrets / "s3_secret_key").write_bytes(rubbish)

    made = settings.kept("s3_secret_key")

    assert len(made) >= 43
    assert settings.kept("s3_secret_key") == made


@pytest.mark.parametrize(("name", "place"), HANDED_OUT.items())
def test_what_a_server_was_given_outlives_the_loss_of_ours(
    settings: DeploySettings, name: str, place: str
) -> None:
    first = settings.kept(name)
    given = settings.place / place
    given.parent.mkdir(parents=True)
    given.write_text(first + "\n")
    (settings.installation.secrets / name).unlink()

    assert settings.kept(name) == first
    assert (settings.installation.secrets / name).read_text() == first + "\n"


def test_secrets_are_looked_for_where_they_are_handed_out(prepared: DeploySettings) -> None:
    given = {
        f"{holder.name}/{file}": content
        for holder in holders_at_first(prepared)
        for file, content in holder.files.items()
    }

    for name, place in HANDED_OUT.items():
        assert given[place].decode().strip() == prepared.kept(name)


def test_the_owner_s_address_has_the_kept_password(settings: DeploySettings) -> None:
    dsn = settings.owner_dsn()

    assert dsn.startswith("postgresql://postgres:")
    assert f":{settings.kept(OWNER)}@postgres/pawl" in dsn


def test_nobody_is_given_what_is_another_s(prepared: DeploySettings) -> None:
    holders = {holder.name: holder for holder in holders_at_first(prepared)}

    own = {
        name: {
            content
            for file, content in holder.files.items()
            if file not in {"ca.crt", "public_keys.json"}
        }
        for name, holder in holders.items()
    }
    shared = {
        frozenset((one, other))
        for one in own
        for other in own
        if one != other and own[one] & own[other]
    }
    assert set(holders) == {"postgres", "s3", "client", *SERVICES}
    # The keys of the store are those of the one service that speaks to it.
    assert shared == {frozenset(("s3", "artifact"))}


def test_the_authority_s_key_is_given_to_nobody(prepared: DeploySettings) -> None:
    authority = (prepared.tls / "ca.key").read_bytes()

    given = [content for holder in holders_at_first(prepared) for content in holder.files.values()]

    assert authority not in given


def test_each_service_is_told_the_address_for_its_own_role(settings: DeploySettings) -> None:
    for name in WITH_DATABASE:
        (settings.installation.secrets / f"db_{name}_password").write_text(f"of-{name}\n")

    holders = holders_with_database(
        settings, owner_dsn="postgresql://postgres:owner@db/pawl", api_key="pawl_live_x"
    )

    given = {holder.name: dict(holder.files) for holder in holders}
    assert given.pop("operator") == {"api_key": b"pawl_live_x\n"}
    assert set(given) == set(WITH_DATABASE)
    for name, files in given.items():
        address = files["database_url"].decode()
        assert f"pawl_{name}:of-{name}@db/pawl" in address
        assert "owner" not in address

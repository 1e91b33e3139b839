"""Certificate files that do not work are named with their setting."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from libs.process.env import ConfigError, Env
from libs.rpc.certs import make_certificates
from libs.rpc.tls import TlsFiles, load_identity, read_tls
from tests.certificates import files_of, make_expired

SETTINGS = {
    "ca": "PAWL_TLS_CA_FILE",
    "certificate": "PAWL_TLS_CERT_FILE",
    "key": "PAWL_TLS_KEY_FILE",
}


@pytest.fixture
def files(tmp_path: Path) -> TlsFiles:
    make_certificates(tmp_path, ["auth", "planner"])
    return files_of(tmp_path, "auth")


def test_no_setting_means_no_certificates() -> None:
    env = Env({"PAWL_TLS_CA_FILE": ""})

    assert read_tls(env) is None
    env.check()


@pytest.mark.parametrize("given", sorted(SETTINGS.values()))
def test_one_of_three_settings_names_the_other_two(given: str) -> None:
    env = Env({given: "/some/file"})

    read_tls(env)

    with pytest.raises(ConfigError) as refused:
        env.check()
    missing = [name for name in SETTINGS.values() if name != given]
    assert str(refused.value) == f"bad settings: {'; '.join(f'{n} is not set' for n in missing)}"


def test_the_three_settings_are_paths() -> None:
    env = Env({name: f"/certs/{kind}" for kind, name in SETTINGS.items()})

    assert read_tls(env) == TlsFiles(
        ca=Path("/certs/ca"), certificate=Path("/certs/certificate"), key=Path("/certs/key")
    )


@pytest.mark.parametrize("kind", sorted(SETTINGS))
def test_a_file_that_cannot_be_read_is_named(files: TlsFiles, kind: str) -> None:
    missing = files.ca.with_name("nowhere.pem")

    with pytest.raises(ConfigError) as refused:
        load_identity(replace(files, **{kind: missing}))

    assert str(refused.value) == (
        f"{SETTINGS[kind]}: {missing} cannot be read: No such file or directory"
    )


@pytest.mark.parametrize(
    "content", [b"", b"no PEM", b"-----BEGIN CERTIFICATE-----\nAAAA\n", b"\xff"]
)
@pytest.mark.parametrize("kind", sorted(SETTINGS))
def test_a_file_that_is_malformed_is_named(files: TlsFiles, kind: str, content: bytes) -> None:
    broken = files.ca.with_name("broken.pem")
    broken.write_bytes(content)

    with pytest.raises(ConfigError) as refused:
        load_identity(replace(files, **{kind: broken}))

    assert str(refused.value).startswith(f"{SETTINGS[kind]}: {broken} holds no PEM ")


def test_files_in_each_others_place_are_named(files: TlsFiles) -> None:
    with pytest.raises(ConfigError, match=r"PAWL_TLS_CERT_FILE: .*auth\.key holds no PEM cert"):
        load_identity(replace(files, certificate=files.key, key=files.certificate))


def test_a_key_under_a_password_is_refused(files: TlsFiles) -> None:
    key = load_pem_private_key(files.key.read_bytes(), password=None)
    closed = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    files.key.write_bytes(closed)

    with pytest.raises(ConfigError, match=r"PAWL_TLS_KEY_FILE: .* that needs no password"):
        load_identity(files)


def test_anothers_key_is_refused(files: TlsFiles) -> None:
    with pytest.raises(ConfigError, match=r"planner\.key is not the key of .*auth\.crt"):
        load_identity(replace(files, key=files.key.with_name("planner.key")))


def test_a_certificate_that_has_ended_is_refused(tmp_path: Path) -> None:
    make_expired(tmp_path, "executor")

    with pytest.raises(ConfigError, match=r"PAWL_TLS_CERT_FILE: .*executor\.crt is valid from"):
        load_identity(files_of(tmp_path, "executor"))


def test_a_services_certificate_must_be_its_own(files: TlsFiles) -> None:
    with pytest.raises(ConfigError, match="is for auth; a certificate with the DNS name planner"):
        load_identity(files, service="planner")

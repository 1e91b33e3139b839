"""Development certificates: made once, kept while they hold, replaced when they do not."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from libs.process.env import ConfigError
from libs.rpc.certs import NAMES, MadeCertificate, main, make_certificates
from libs.rpc.tls import dns_names, load_identity
from libs.rpc.tokens import SERVICES
from tests.certificates import files_of

NOW = datetime.now(UTC)


def made(outcomes: list[MadeCertificate]) -> list[str]:
    return [one.name for one in outcomes if one.is_new]


def read(directory: Path, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((directory / f"{name}.crt").read_bytes())


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_every_service_and_a_client_get_a_certificate_for_their_name(tmp_path: Path) -> None:
    outcomes = make_certificates(tmp_path / "certs")

    authority = read(tmp_path / "certs", "ca")
    assert made(outcomes) == ["ca", *SERVICES, "client"]
    for name in NAMES:
        certificate = read(tmp_path / "certs", name)
        certificate.verify_directly_issued_by(authority)
        assert dns_names(certificate) == (name,)
        assert load_identity(files_of(tmp_path / "certs", name), service=name).names == (name,)


def test_a_certificate_is_p256_for_both_sides_and_825_days(tmp_path: Path) -> None:
    make_certificates(tmp_path, ["auth"], now=NOW)

    certificate = read(tmp_path, "auth")
    key = certificate.public_key()
    uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"
    assert set(uses) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert not basic.ca
    assert certificate.not_valid_after_utc == (NOW + timedelta(days=825)).replace(microsecond=0)


def test_only_the_owner_reads_keys(tmp_path: Path) -> None:
    make_certificates(tmp_path)

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert {mode for name, mode in modes.items() if name.endswith(".key")} == {0o600}
    assert {mode for name, mode in modes.items() if name.endswith(".crt")} == {0o644}


def test_a_key_that_others_could_read_is_closed_again(tmp_path: Path) -> None:
    make_certificates(tmp_path, ["auth"])
    for name in ("auth.key", "ca.key"):
        (tmp_path / name).chmod(0o644)

    make_certificates(tmp_path, ["auth"])

    assert stat.S_IMODE((tmp_path / "auth.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "ca.key").stat().st_mode) == 0o600


def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    before = contents(tmp_path)

    outcomes = make_certificates(tmp_path)

    assert made(outcomes) == []
    assert contents(tmp_path) == before


def test_a_name_that_comes_later_is_signed_by_the_same_authority(tmp_path: Path) -> None:
    make_certificates(tmp_path, ["auth"])

    outcomes = make_certificates(tmp_path, ["auth", "reports"])

    assert made(outcomes) == ["reports"]
    read(tmp_path, "reports").verify_directly_issued_by(read(tmp_path, "ca"))


@pytest.mark.parametrize(("days_later", "expected"), [(69, []), (71, ["auth"])])
def test_a_certificate_is_replaced_in_its_last_30_days(
    tmp_path: Path, days_later: int, expected: list[str]
) -> None:
    make_certificates(tmp_path, ["auth"], valid_days=100, now=NOW)

    outcomes = make_certificates(tmp_path, ["auth"], now=NOW + timedelta(days=days_later))

    assert made(outcomes) == expected


def test_a_new_authority_replaces_every_certificate(tmp_path: Path) -> None:
    make_certificates(tmp_path, ["auth", "planner"])
    (tmp_path / "ca.crt").unlink()

    outcomes = make_certificates(tmp_path, ["auth", "planner"])

    assert made(outcomes) == ["ca", "auth", "planner"]


def test_an_authority_near_its_end_is_replaced_and_outlived_by_no_certificate(
    tmp_path: Path,
) -> None:
    make_certificates(tmp_path, ["auth"], now=NOW)
    late = NOW + timedelta(days=3600)

    made_late = make_certificates(tmp_path, ["auth"], now=late)
    made_after = make_certificates(tmp_path, ["auth"], now=NOW + timedelta(days=3625))

    assert made(made_late) == ["auth"]
    assert made_late[0].valid_until == made_late[1].valid_until
    assert made(made_after) == ["ca", "auth"]


@pytest.mark.parametrize("broken", ["auth.key", "auth.crt"])
@pytest.mark.parametrize("content", [None, b"", b"no PEM"])
def test_half_a_pair_is_made_anew(tmp_path: Path, broken: str, content: bytes | None) -> None:
    make_certificates(tmp_path, ["auth"])
    if content is None:
        (tmp_path / broken).unlink()
    else:
        (tmp_path / broken).write_bytes(content)

    outcomes = make_certificates(tmp_path, ["auth"])

    assert made(outcomes) == ["auth"]
    load_identity(files_of(tmp_path, "auth"))


def test_without_its_key_an_authority_keeps_but_makes_nothing(tmp_path: Path) -> None:
    make_certificates(tmp_path, ["auth"])
    (tmp_path / "ca.key").unlink()

    kept = make_certificates(tmp_path, ["auth"])
    with pytest.raises(ConfigError, match=r"ca\.key is needed to make planner\.crt"):
        make_certificates(tmp_path, ["planner"])

    assert made(kept) == []


def test_anothers_key_is_not_taken_for_the_authoritys(tmp_path: Path) -> None:
    make_certificates(tmp_path, ["auth"])
    (tmp_path / "ca.key").write_bytes((tmp_path / "auth.key").read_bytes())

    with pytest.raises(ConfigError, match=r"ca\.key is not the key of ca\.crt"):
        make_certificates(tmp_path, ["planner"])


@pytest.mark.parametrize("name", ["ca", "", "../auth", "Auth", "a.b", "-a", "*"])
def test_a_name_that_is_no_dns_label_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a certificate's name"):
        make_certificates(tmp_path, [name])

    assert contents(tmp_path) == {}


def test_the_command_says_what_it_made_and_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = main([str(tmp_path), "--days", "90", "--extra", "reports", "billing"])
    said = capsys.readouterr().out.splitlines()
    second = main([str(tmp_path)])
    again = capsys.readouterr().out.splitlines()

    until = f"{read(tmp_path, 'billing').not_valid_after_utc:%Y-%m-%d}"
    assert (first, second) == (0, 0)
    assert len(said) == len(NAMES) + 4
    assert said[-2].split() == ["billing", "made", "valid", "until", until]
    assert all(line.split()[1] == "kept" for line in again[:-1])


def test_the_command_refuses_days_that_would_be_replaced_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--days", "30"])

    assert "31 to 3650 are allowed" in capsys.readouterr().err

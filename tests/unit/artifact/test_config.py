from __future__ import annotations

from pathlib import Path

import pytest

from libs.process.env import ConfigError
from services.artifact.blob_place import BlobKeys, BlobSettings, LocalPlace
from services.artifact.config import Settings, blobs_from_env

GOOD = {
    "PAWL_ARTIFACT_DATABASE_URL": "postgresql://pawl_artifact:hush@localhost/pawl",
    "PAWL_SERVICE_KEY_FILE": "/keys/service_artifact.jwk",
    "PAWL_PUBLIC_KEYS_FILE": "/keys/public_keys.json",
    "PAWL_BLOBS": "file:///srv/blobs",
}
BUCKET = {"PAWL_BLOBS": "s3://pawl?endpoint=http://s3:7070"}
OURS = {"PAWL_BLOBS_ACCESS_KEY": "ours", "PAWL_BLOBS_SECRET_KEY": "hush"}
AWS = {
    "AWS_ACCESS_KEY_ID": "amazon",
    "AWS_SECRET_ACCESS_KEY": "quiet",
    "AWS_SESSION_TOKEN": "passing",
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


def test_a_directory_takes_no_keys() -> None:
    settings = blobs_from_env(GOOD | OURS | AWS)

    assert settings == BlobSettings(place=LocalPlace(directory=Path("/srv/blobs")), keys=None)


@pytest.mark.parametrize(
    ("environ", "keys"),
    [
        (OURS, BlobKeys(access_key="ours", secret_key="hush")),
        (OURS | AWS, BlobKeys(access_key="ours", secret_key="hush")),
        (AWS, BlobKeys(access_key="amazon", secret_key="quiet", session_token="passing")),
    ],
)
def test_a_bucket_takes_our_keys_or_else_those_of_aws(
    environ: dict[str, str], keys: BlobKeys
) -> None:
    settings = blobs_from_env(BUCKET | environ)

    assert settings.keys == keys
    for secret in ("hush", "quiet", "passing"):
        assert secret not in repr(settings)


def test_keys_may_stand_in_files(tmp_path: Path) -> None:
    for name, value in OURS.items():
        (tmp_path / name).write_text(f"{value}\n")
    files = {f"{name}_FILE": str(tmp_path / name) for name in OURS}

    settings = blobs_from_env(BUCKET | AWS | files)

    assert settings.keys == BlobKeys(access_key="ours", secret_key="hush")


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({}, ["PAWL_BLOBS is not set"]),
        (BUCKET, ["PAWL_BLOBS_ACCESS_KEY", "PAWL_BLOBS_SECRET_KEY"]),
        (BUCKET | {"PAWL_BLOBS_ACCESS_KEY": "x"} | AWS, ["PAWL_BLOBS_SECRET_KEY"]),
        (BUCKET | {"AWS_ACCESS_KEY_ID": "x"}, ["AWS_SECRET_ACCESS_KEY"]),
        (
            {"PAWL_BLOBS": "s3://P?x=y"},
            ["bucket 'P'", "'x'", "PAWL_BLOBS_ACCESS_KEY", "PAWL_BLOBS_SECRET_KEY"],
        ),
    ],
)
def test_settings_of_blobs_name_every_mistake_at_once(
    environ: dict[str, str], names: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        blobs_from_env(environ)

    for name in names:
        assert name in str(caught.value)

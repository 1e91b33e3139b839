"""Settings of artifact: the only reader of its environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from libs.bus.settings import BusSettings, read_bus
from libs.process.env import LOG_LEVELS, Env
from libs.rpc.tls import TlsFiles, read_tls
from services.artifact.blob_place import ALLOWED, BlobKeys, BlobSettings, LocalPlace, read_place

_KEYS = ("PAWL_BLOBS_ACCESS_KEY", "PAWL_BLOBS_SECRET_KEY")
_AWS_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What serving needs. Addresses are host:port; port 0 takes a free one."""

    listen: str
    metrics_listen: str
    database_url: str = field(repr=False)
    service_key_file: Path
    public_keys_file: Path
    log_level: str
    bus: BusSettings
    tls: TlsFiles | None
    blobs: BlobSettings

    @classmethod
    def from_env(cls, values: Mapping[str, str]) -> Settings:
        """Read and check all of it; ConfigError names every bad variable."""
        env = Env(values)
        settings = cls(
            listen=env.address("PAWL_LISTEN", "127.0.0.1:0"),
            metrics_listen=env.address("PAWL_METRICS_LISTEN", "127.0.0.1:0"),
            database_url=env.secret("PAWL_ARTIFACT_DATABASE_URL"),
            service_key_file=env.path("PAWL_SERVICE_KEY_FILE"),
            public_keys_file=env.path("PAWL_PUBLIC_KEYS_FILE"),
            log_level=env.choice("PAWL_LOG_LEVEL", LOG_LEVELS, "info"),
            bus=read_bus(env),
            tls=read_tls(env),
            blobs=read_blobs(env),
        )
        env.check()
        return settings


def blobs_from_env(values: Mapping[str, str]) -> BlobSettings:
    """Read and check the settings of blobs alone; ConfigError names every bad variable."""
    env = Env(values)
    settings = read_blobs(env)
    env.check()
    return settings


def read_blobs(env: Env) -> BlobSettings:
    """Read PAWL_BLOBS and, for a bucket, its keys (each may stand in a file: NAME_FILE).

    AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN count when no PAWL_ key is set.
    """
    url = env.optional_text("PAWL_BLOBS")
    if url is None:
        env.refuse(f"PAWL_BLOBS is not set; {ALLOWED}")
        return _NOWHERE
    place, mistakes = read_place(url)
    for mistake in mistakes:
        env.refuse(f"PAWL_BLOBS {mistake}")
    keys = _read_keys(env) if url.startswith("s3:") else None
    return _NOWHERE if place is None else BlobSettings(place=place, keys=keys)


def _read_keys(env: Env) -> BlobKeys:
    if not _any_set(env, _KEYS) and _any_set(env, _AWS_KEYS):
        return BlobKeys(
            access_key=env.secret(_AWS_KEYS[0]),
            secret_key=env.secret(_AWS_KEYS[1]),
            session_token=env.optional_text("AWS_SESSION_TOKEN"),
        )
    return BlobKeys(access_key=env.secret(_KEYS[0]), secret_key=env.secret(_KEYS[1]))


def _any_set(env: Env, names: tuple[str, str]) -> bool:
    return any(env.optional_text(name) or env.optional_text(f"{name}_FILE") for name in names)


# Stands in until `check` raises.
_NOWHERE = BlobSettings(place=LocalPlace(directory=Path("/nowhere")))

"""Settings of artifact: the only reader of its environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from libs.bus.settings import BusSettings, read_bus
from libs.process.env import LOG_LEVELS, Env
from libs.rpc.tls import TlsFiles, read_tls


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
        )
        env.check()
        return settings

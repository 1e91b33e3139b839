"""The scheduler's settings, read from the environment once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from libs.bus.settings import BusSettings, read_bus
from libs.process.env import LOG_LEVELS, Env
from libs.rpc.tls import TlsFiles, read_tls

LEASE_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Addresses, key files and the database of one scheduler process."""

    listen: str
    metrics_listen: str
    database_url: str = field(repr=False)
    planner_target: str
    service_key_file: Path
    public_keys_file: Path
    log_level: str
    bus: BusSettings
    tls: TlsFiles | None
    lease_seconds: float

    @classmethod
    def from_env(cls, values: Mapping[str, str]) -> Settings:
        """Read every setting; ConfigError names all that are missing or malformed."""
        env = Env(values)
        settings = cls(
            listen=env.address("PAWL_LISTEN", "127.0.0.1:0"),
            metrics_listen=env.address("PAWL_METRICS_LISTEN", "127.0.0.1:0"),
            database_url=env.secret("PAWL_SCHEDULER_DATABASE_URL"),
            planner_target=env.text("PAWL_PLANNER_TARGET"),
            service_key_file=env.path("PAWL_SERVICE_KEY_FILE"),
            public_keys_file=env.path("PAWL_PUBLIC_KEYS_FILE"),
            log_level=env.choice("PAWL_LOG_LEVEL", LOG_LEVELS, default="info"),
            bus=read_bus(env),
            tls=read_tls(env),
            lease_seconds=env.number(
                "PAWL_LEASE_SECONDS", LEASE_SECONDS, minimum=2.0, maximum=600.0
            ),
        )
        env.check()
        return settings

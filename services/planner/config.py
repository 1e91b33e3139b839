"""Settings of the planner: the only reader of its environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from libs.process.env import LOG_LEVELS, Env
from libs.rpc.tls import TlsFiles, read_tls

DATABASE_URL = "PAWL_PLANNER_DATABASE_URL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What serving needs. Addresses are host:port; port 0 takes a free one."""

    listen: str
    metrics_listen: str
    database_url: str = field(repr=False)
    public_keys_file: Path
    log_level: str
    tls: TlsFiles | None

    @classmethod
    def from_env(cls, values: Mapping[str, str]) -> Settings:
        """Read and check all of it; ConfigError names every bad variable."""
        env = Env(values)
        settings = cls(
            listen=env.address("PAWL_LISTEN", "127.0.0.1:0"),
            metrics_listen=env.address("PAWL_METRICS_LISTEN", "127.0.0.1:0"),
            database_url=env.secret(DATABASE_URL),
            public_keys_file=env.path("PAWL_PUBLIC_KEYS_FILE"),
            log_level=env.choice("PAWL_LOG_LEVEL", LOG_LEVELS, "info"),
            tls=read_tls(env),
        )
        env.check()
        return settings

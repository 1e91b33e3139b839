"""The gateway's settings: the only place where it reads the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from libs.process.env import LOG_LEVELS, Env
from libs.rpc.tls import TlsFiles, read_tls


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where the gateway listens, whom it asks, and how much it takes on at once."""

    listen: str
    metrics_listen: str | None
    log_level: str
    version_label: str
    auth_target: str
    planner_target: str
    scheduler_target: str
    artifact_target: str
    max_in_flight: int
    max_body_bytes: int
    service_key_file: Path
    tls: TlsFiles | None

    @classmethod
    def from_env(cls, values: Mapping[str, str]) -> Settings:
        """Read every variable; ConfigError names all that are missing or malformed."""
        env = Env(values)
        settings = cls(
            listen=env.address("PAWL_HTTP_LISTEN", "127.0.0.1:8080"),
            metrics_listen=env.optional_text("PAWL_METRICS_LISTEN"),
            log_level=env.choice("PAWL_LOG_LEVEL", LOG_LEVELS, "info"),
            version_label=env.text("PAWL_VERSION_LABEL", f"pawl-{version('pawl')}"),
            auth_target=env.address("PAWL_AUTH_TARGET"),
            planner_target=env.address("PAWL_PLANNER_TARGET"),
            scheduler_target=env.address("PAWL_SCHEDULER_TARGET"),
            artifact_target=env.address("PAWL_ARTIFACT_TARGET"),
            max_in_flight=env.integer("PAWL_HTTP_MAX_IN_FLIGHT", 1000, minimum=1),
            max_body_bytes=env.integer("PAWL_HTTP_MAX_BODY_BYTES", 64 * 2**20, minimum=2**20),
            service_key_file=env.path("PAWL_SERVICE_KEY_FILE"),
            tls=read_tls(env),
        )
        env.check()
        return settings

"""Settings of the sandbox: the only reader of its environment."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from libs.process.env import LOG_LEVELS, Env
from libs.rpc.tls import CA_FILE, CERT_FILE, KEY_FILE, TlsFiles, read_tls
from services.executor.sandbox.docker_address import read_engine_address


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Addresses are host:port; port 0 takes a free one.

    `runtime` is the container runtime by the engine's name for it, "" its default. `guests` are
    kept ready.
    """

    listen: str
    metrics_listen: str
    public_keys_file: Path
    log_level: str
    tls: TlsFiles | None
    engine: str
    runtime: str
    guests: int

    @classmethod
    def from_env(cls, values: Mapping[str, str]) -> Settings:
        """Read and check all of it; ConfigError names every bad variable."""
        env = Env(values)
        settings = cls(
            listen=env.address("PAWL_LISTEN", "127.0.0.1:0"),
            metrics_listen=env.address("PAWL_METRICS_LISTEN", "127.0.0.1:0"),
            public_keys_file=env.path("PAWL_PUBLIC_KEYS_FILE"),
            log_level=env.choice("PAWL_LOG_LEVEL", LOG_LEVELS, "info"),
            tls=read_tls(env),
            engine=read_engine_address(env),
            runtime=env.text("PAWL_SANDBOX_RUNTIME", ""),
            guests=env.integer("PAWL_SANDBOX_GUESTS", 4, minimum=1, maximum=64),
        )
        if settings.tls is None and not _is_loopback(settings.listen):
            # Whoever can speak to it may run code on the engine of this machine.
            env.refuse(
                f"PAWL_LISTEN is {settings.listen!r} without certificates; beyond loopback the "
                f"sandbox speaks mTLS only: {CA_FILE}, {CERT_FILE} and {KEY_FILE} are required"
            )
        env.check()
        return settings


def _is_loopback(listen: str) -> bool:
    host = listen.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

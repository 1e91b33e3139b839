"""Settings of the executor: the only reader of its environment."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from libs.core.prices import PRICES, BadPrices, Prices, read_prices
from libs.net.allow_list import NOTHING_MORE, AllowList, read_allow_list
from libs.net.egress_rules import ALLOW_SETTING, EgressRules
from libs.process.env import LOG_LEVELS, Env
from libs.rpc.tls import TlsFiles, read_tls
from services.executor.sandbox_choice import SandboxSettings, read_sandbox
from services.executor.tools.child_process import MOST_AT_ONCE

PRICES_SETTING = "PAWL_PRICES"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Addresses are host:port; port 0 takes a free one.

    `children` is how many processes of tools (table_query, text_extract) run at once.
    `drain_seconds` is how long the executor has to end after SIGTERM. At first tasks go on; for
    most of it only open steps are closed, and what follows is left to other executors; what still
    runs near its end is killed. `sandbox_target` is the process that runs code steps, "" when the
    executor runs them itself.
    """

    listen: str
    metrics_listen: str
    service_key_file: Path
    public_keys_file: Path
    log_level: str
    tls: TlsFiles | None
    planner_target: str
    scheduler_target: str
    artifact_target: str
    executor_id: str
    slots: int
    children: int
    drain_seconds: float
    egress: EgressRules
    sandbox: SandboxSettings
    sandbox_target: str
    prices: Prices

    @classmethod
    def from_env(cls, values: Mapping[str, str]) -> Settings:
        """Read and check all of it; ConfigError names every bad variable.

        The name of an executor is to be its own: two that run under one name take each other's
        tasks away. It is the host's name unless it is given.
        """
        env = Env(values)
        settings = cls(
            listen=env.address("PAWL_LISTEN", "127.0.0.1:0"),
            metrics_listen=env.address("PAWL_METRICS_LISTEN", "127.0.0.1:0"),
            service_key_file=env.path("PAWL_SERVICE_KEY_FILE"),
            public_keys_file=env.path("PAWL_PUBLIC_KEYS_FILE"),
            log_level=env.choice("PAWL_LOG_LEVEL", LOG_LEVELS, "info"),
            tls=read_tls(env),
            planner_target=env.address("PAWL_PLANNER_TARGET"),
            scheduler_target=env.address("PAWL_SCHEDULER_TARGET"),
            artifact_target=env.address("PAWL_ARTIFACT_TARGET"),
            executor_id=env.text("PAWL_EXECUTOR_ID", socket.gethostname()[:128]),
            slots=env.integer("PAWL_EXECUTOR_SLOTS", 32, minimum=1, maximum=1000),
            children=env.integer("PAWL_EXECUTOR_CHILDREN", MOST_AT_ONCE, minimum=1, maximum=100),
            drain_seconds=env.number("PAWL_EXECUTOR_DRAIN_SECONDS", 8.0, minimum=0, maximum=3600),
            egress=EgressRules(_read_allowed(env)),
            sandbox=read_sandbox(env),
            sandbox_target=env.address("PAWL_SANDBOX_TARGET", ""),
            prices=_read_prices(env),
        )
        env.check()
        return settings


def _read_prices(env: Env) -> Prices:
    """The table in the file that the setting names, else the one that Pawl ships."""
    path = env.optional_text(PRICES_SETTING)
    if path is None:
        return PRICES
    try:
        return read_prices(Path(path).expanduser().read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        env.refuse(f"{PRICES_SETTING} names a file that cannot be read: {error}")
    except BadPrices as error:
        env.refuse(f"{PRICES_SETTING} names a file that is no price table: {path}: {error}")
    return PRICES


def _read_allowed(env: Env) -> AllowList:
    try:
        return read_allow_list(env.optional_text(ALLOW_SETTING) or "")
    except ValueError as error:
        env.refuse(f"{ALLOW_SETTING} has the entry {error}")
        return NOTHING_MORE

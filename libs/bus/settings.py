"""Which bus a process uses, and where it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from libs.process.env import Env

# What Kafka allows in the name of a topic, and room for the rest of it.
_PREFIX = re.compile(r"[A-Za-z0-9._-]{0,100}")
_ADDRESS = re.compile(r"\s*[^\s,]+:[0-9]{1,5}\s*")

POSTGRES = "postgres"
KAFKA = "kafka"


@dataclass(frozen=True, slots=True, kw_only=True)
class BusSettings:
    """The driver; for kafka its brokers (host:port, comma-separated) and what names begin with."""

    driver: str = POSTGRES
    kafka_bootstrap: str = ""
    kafka_prefix: str = ""


def bus_from_env(values: Mapping[str, str]) -> BusSettings:
    """Read and check the settings of the bus alone; ConfigError names every bad variable."""
    env = Env(values)
    settings = read_bus(env)
    env.check()
    return settings


def read_bus(env: Env) -> BusSettings:
    """Read PAWL_BUS and, for kafka, PAWL_KAFKA_BOOTSTRAP and PAWL_KAFKA_PREFIX.

    The prefix stands before the names of topics and groups, so that several Pawls can share a
    cluster.
    """
    driver = env.choice("PAWL_BUS", (POSTGRES, KAFKA), POSTGRES)
    if driver != KAFKA:
        return BusSettings()
    bootstrap = env.text("PAWL_KAFKA_BOOTSTRAP")
    if bootstrap and not all(map(_ADDRESS.fullmatch, bootstrap.split(","))):
        env.refuse(f"PAWL_KAFKA_BOOTSTRAP is {bootstrap!r}; host:port[,host:port…] is allowed")
    prefix = env.text("PAWL_KAFKA_PREFIX", "")
    if not _PREFIX.fullmatch(prefix):
        env.refuse(f"PAWL_KAFKA_PREFIX is {prefix!r}; at most 100 of A-Z a-z 0-9 . _ - are allowed")
    return BusSettings(driver=driver, kafka_bootstrap=bootstrap, kafka_prefix=prefix)

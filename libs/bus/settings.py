"""Which bus a process uses, and where it is."""

from __future__ import annotations

from dataclasses import dataclass

from libs.process.env import Env

POSTGRES = "postgres"
KAFKA = "kafka"


@dataclass(frozen=True, slots=True, kw_only=True)
class BusSettings:
    """The driver; for kafka its brokers (host:port, comma-separated) and what names begin with."""

    driver: str = POSTGRES
    kafka_bootstrap: str = ""
    kafka_prefix: str = ""


def read_bus(env: Env) -> BusSettings:
    """Read PAWL_BUS and, for kafka, PAWL_KAFKA_BOOTSTRAP and PAWL_KAFKA_PREFIX.

    The prefix stands before the names of topics and groups, so that several Pawls can share a
    cluster.
    """
    driver = env.choice("PAWL_BUS", (POSTGRES, KAFKA), POSTGRES)
    if driver != KAFKA:
        return BusSettings()
    return BusSettings(
        driver=driver,
        kafka_bootstrap=env.text("PAWL_KAFKA_BOOTSTRAP"),
        kafka_prefix=env.text("PAWL_KAFKA_PREFIX", ""),
    )

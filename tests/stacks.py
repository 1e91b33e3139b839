"""The environment of a whole Pawl under test: its own database, a bus that it shares with nobody.

PAWL_BUS=kafka runs every stack of the session on Kafka. No stack has a sandbox unless it is given
one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from libs.bus.settings import KAFKA, BusSettings
from libs.cli.stack import Stack
from libs.cli.up.processes import environment_of
from tests.brokers import broker, new_prefix


class StackEnvirons:
    """Makes the environments of a session's stacks; a broker is started when one is needed."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._bootstrap = ""

    def fresh(self, **more: str) -> dict[str, str]:
        """The environment of one stack, with topics of its own where the bus is Kafka."""
        environ = {name: text for name, text in os.environ.items() if name != "PAWL_DATABASE_URL"}
        return environ | {"PAWL_SANDBOX": "none"} | self.bus() | more

    def bus(self) -> dict[str, str]:
        """The settings of the session's kind of bus."""
        return self.kafka() if os.environ.get("PAWL_BUS") == KAFKA else {}

    def kafka(self) -> dict[str, str]:
        """The settings of a bus on Kafka."""
        if not self._bootstrap:
            self._bootstrap = self._stack.enter_context(broker())
        return {
            "PAWL_BUS": KAFKA,
            "PAWL_KAFKA_BOOTSTRAP": self._bootstrap,
            "PAWL_KAFKA_PREFIX": new_prefix(),
        }


@contextmanager
def stack_environs() -> Iterator[StackEnvirons]:
    """For one session of tests."""
    with ExitStack() as stack:
        yield StackEnvirons(stack)


def bus_of(stack: Stack) -> BusSettings:
    """The bus that a running stack was started with."""
    environ = environment_of(stack.ready.pid)
    if environ.get("PAWL_BUS") != KAFKA:
        return BusSettings()
    return BusSettings(
        driver=KAFKA,
        kafka_bootstrap=environ["PAWL_KAFKA_BOOTSTRAP"],
        kafka_prefix=environ["PAWL_KAFKA_PREFIX"],
    )

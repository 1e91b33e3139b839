from __future__ import annotations

import pytest

from libs.bus.settings import BusSettings, read_bus
from libs.process.env import ConfigError, Env


def test_the_bus_is_postgres_unless_said_otherwise() -> None:
    env = Env({"PAWL_KAFKA_BOOTSTRAP": "ignored"})

    assert read_bus(env) == BusSettings()
    env.check()


def test_kafka_is_read_with_its_brokers_and_prefix() -> None:
    environ = {
        "PAWL_BUS": "kafka",
        "PAWL_KAFKA_BOOTSTRAP": "a:9092,b:9092",
        "PAWL_KAFKA_PREFIX": "staging.",
    }
    env = Env(environ)

    settings = read_bus(env)

    env.check()
    assert (settings.driver, settings.kafka_bootstrap) == ("kafka", "a:9092,b:9092")
    assert settings.kafka_prefix == "staging."


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"PAWL_BUS": "pigeon"}, "PAWL_BUS is 'pigeon'; allowed are kafka, postgres"),
        ({"PAWL_BUS": "kafka"}, "PAWL_KAFKA_BOOTSTRAP is not set"),
        ({"PAWL_BUS": "kafka", "PAWL_KAFKA_BOOTSTRAP": "nowhere"}, "PAWL_KAFKA_BOOTSTRAP is"),
        ({"PAWL_BUS": "kafka", "PAWL_KAFKA_BOOTSTRAP": "a:9092,b:x"}, "PAWL_KAFKA_BOOTSTRAP is"),
        (
            {"PAWL_BUS": "kafka", "PAWL_KAFKA_BOOTSTRAP": "a:1", "PAWL_KAFKA_PREFIX": "a b/"},
            "PAWL_KAFKA_PREFIX is 'a b/'",
        ),
        (
            {"PAWL_BUS": "kafka", "PAWL_KAFKA_BOOTSTRAP": "a:1", "PAWL_KAFKA_PREFIX": "x" * 101},
            "PAWL_KAFKA_PREFIX is",
        ),
    ],
)
def test_mistakes_are_named(environ: dict[str, str], said: str) -> None:
    env = Env(environ)
    read_bus(env)

    with pytest.raises(ConfigError) as refused:
        env.check()

    assert said in str(refused.value)

"""Servers in containers for one test session, where an engine answers; else the reason to skip."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import docker
import pytest
from docker.errors import DockerException
from testcontainers.core.container import DockerContainer

KAFKA_IMAGE = "apache/kafka:4.3.1"
S3_IMAGE = "versity/versitygw:v1.8.0"
POSTGRES_IMAGE = "postgres:15-bookworm"


@contextmanager
def running(container: DockerContainer, *, instead: str) -> Iterator[DockerContainer]:
    """The container, started and removed again. Skips where no engine answers or no image is to be
    had; `instead` is the variable that names a running server.
    """
    try:
        docker.from_env().ping()
    except DockerException as error:
        pytest.skip(f"no Docker engine answers, and {instead} is not set: {error}")
    try:
        container.start()
    except DockerException as error:
        container.stop()
        pytest.skip(f"{container.image} cannot be started, and {instead} is not set: {error}")
    try:
        yield container
    finally:
        container.stop()


def free_port() -> int:
    """A port that is free now, for a container that must know its own before it starts."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

"""Where the container engine listens, read from the environment."""

from __future__ import annotations

from libs.process.env import Env

DEFAULT_ADDRESS = "unix:///var/run/docker.sock"


def read_engine_address(env: Env) -> str:
    """DOCKER_HOST, else this machine's engine. Refused: what is neither unix:// nor tcp://."""
    address = env.text("DOCKER_HOST", DEFAULT_ADDRESS)
    if not address.startswith(("unix://", "tcp://")):
        env.refuse(f"DOCKER_HOST is {address!r}; unix:///path and tcp://host:port are allowed")
    if env.optional_text("DOCKER_TLS_VERIFY"):
        env.refuse("DOCKER_TLS_VERIFY is set; an engine behind TLS is not supported")
    return address

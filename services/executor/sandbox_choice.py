"""Which sandbox this executor uses: the one that is named, or the first that works.

`python -m services.executor.sandbox_choice` makes that choice ahead of all executors of a machine
and says how it goes: lines for people, the last one `sandbox: NAME` or `sandbox: none`.
"""

from __future__ import annotations

from dataclasses import dataclass

from libs.process.env import Env
from libs.process.logs import get_logger
from services.executor.sandbox.docker_address import read_engine_address

AUTO, NONE = "auto", "none"
BACKENDS = ("docker", "bubblewrap", "monty")
"""In the order in which `auto` tries them."""

CHOICES = (AUTO, *BACKENDS, NONE)

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSettings:
    """`choice` is one of CHOICES; `engine` where a container engine listens, `runtime` the container
    runtime by its name there, "" its default; `guests` are kept ready.
    """

    choice: str
    engine: str
    runtime: str
    guests: int


def read_sandbox(env: Env) -> SandboxSettings:
    """Read PAWL_SANDBOX, DOCKER_HOST, PAWL_SANDBOX_RUNTIME and PAWL_SANDBOX_GUESTS."""
    return SandboxSettings(
        choice=env.choice("PAWL_SANDBOX", CHOICES, AUTO),
        engine=read_engine_address(env),
        runtime=env.text("PAWL_SANDBOX_RUNTIME", ""),
        guests=env.integer("PAWL_SANDBOX_GUESTS", 4, minimum=1, maximum=64),
    )

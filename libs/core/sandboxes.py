"""The kinds of sandbox, as versions of the code tool and health checks name them."""

from __future__ import annotations

SANDBOXES = ("docker", "bubblewrap", "monty")
"""In the order in which an executor that may choose tries them."""


def health_name(sandbox: str) -> str:
    """The name under which the planner's gRPC health says whether some executor runs code in it."""
    return f"pawl.sandbox.{sandbox}"

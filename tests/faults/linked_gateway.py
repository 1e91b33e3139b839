"""The gateway behind links: `python -m tests.faults.linked_gateway`."""

from tests.faults.linked import run_linked

run_linked("gateway")

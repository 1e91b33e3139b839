"""The artifact behind links: `python -m tests.faults.linked_artifact`."""

from tests.faults.linked import run_linked

run_linked("artifact")

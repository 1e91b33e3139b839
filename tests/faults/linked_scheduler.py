"""The scheduler behind links: `python -m tests.faults.linked_scheduler`."""

from tests.faults.linked import run_linked

run_linked("scheduler")

"""The executor behind links: `python -m tests.faults.linked_executor`."""

from tests.faults.linked import run_linked

run_linked("executor")

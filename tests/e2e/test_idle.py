"""What Pawl takes while nobody asks for anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.resources import idle_queries_per_second, memory_of
from libs.cli.client import Client
from libs.cli.stack import running_stack
from libs.db.embedded import SUPERUSER
from libs.db.roles import with_user
from tests.e2e.tasks import CHAIN, finished
from tests.stacks import StackEnvirons

pytestmark = pytest.mark.e2e


def test_an_idle_pawl_is_quiet_and_small(tmp_path: Path, environs: StackEnvirons) -> None:
    """Fewer than 5 queries a second, at most 700 MB; after it has run something."""
    with running_stack(tmp_path / "data", environ=environs.fresh()) as stack:
        for _ in range(5):
            assert finished(Client(stack.server), CHAIN)["status"] == "succeeded"

        queries = idle_queries_per_second(
            with_user(stack.ready.postgres.dsn, user=SUPERUSER),
            log_path=stack.data_dir / "logs" / "postgres.log",
            seconds=20.0,
        )
        memory = memory_of(stack.pids)

    assert 0 < queries < 5
    assert memory.pss_mib < 700

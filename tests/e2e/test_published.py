"""What a whole Pawl publishes is what docs/asyncapi.yaml says."""

from __future__ import annotations

import pytest

from libs.cli.client import Client
from libs.cli.stack import Stack
from tests.e2e.tasks import CHAIN, FAILING, UNPLANNABLE, finished
from tests.published import check_published

pytestmark = pytest.mark.e2e


async def test_runs_publish_each_type_that_they_cause_as_documented(any_stack: Stack) -> None:
    client = Client(any_stack.server)
    for body in (CHAIN, FAILING, UNPLANNABLE):
        finished(client, body)

    seen = await check_published(any_stack)

    assert set(seen) >= {
        "pawl.task.status_transition.v1",
        "pawl.task.step_started.v1",
        "pawl.task.step_finished.v1",
    }

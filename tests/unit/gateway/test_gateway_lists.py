"""The query of a list of tasks in the scheduler's words."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from gateway.dialects.runtime.lists import PARAMETERS, asked
from gateway.query import read_query
from libs.core.errors import PawlError
from libs.pb.pawl.scheduler.v1 import task_pb2
from libs.rpc.convert import from_timestamp

ID = "0199d2a1-7c3e-7b52-9a64-3f0d5c1b8e27"


def read(query: str) -> object:
    return asked(read_query(query.encode(), known=PARAMETERS))


def test_no_query_is_the_newest_of_all() -> None:
    wanted = asked({})

    assert not wanted.ListFields()


def test_every_filter_is_passed_on() -> None:
    query = (
        "status=queued,running&created_from=2026-06-15T09:00:00%2B02:00&created_before="
        f"2026-06-16T00:00:00.5Z&agent_id=agent_{ID}&replay_of_task_id=task_{ID}&mode=test"
        "&limit=7&cursor=abc"
    )
    wanted = asked(read_query(query.encode(), known=PARAMETERS))

    assert set(wanted.states) == {task_pb2.TASK_STATE_QUEUED, task_pb2.TASK_STATE_RUNNING}
    assert from_timestamp(wanted.created_from) == datetime(2026, 6, 15, 7, tzinfo=UTC)
    assert from_timestamp(wanted.created_before) == datetime(2026, 6, 16, 0, 0, 0, 500_000, UTC)
    assert (wanted.agent_id, wanted.replay_of_task_id, wanted.mode) == (ID, ID, "test")
    assert (wanted.page_size, wanted.page_token) == (7, "abc")


def test_failed_is_what_this_dialect_calls_failed() -> None:
    wanted = asked({"status": "failed"})

    assert set(wanted.states) == {task_pb2.TASK_STATE_FAILED, task_pb2.TASK_STATE_CANCELLED}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("status=", "status"),
        ("status=cancelled", "status"),
        ("status=Queued", "status"),
        ("status=queued,", "status"),
        ("status=queued%20", "status"),
        ("status=queued;drop", "status"),
        ("created_from=", "created_from"),
        ("created_from=2026-06-15", "created_from"),
        ("created_from=2026-06-15T09:00:00", "created_from"),
        ("created_from=2026-06-15T09:00:00+02:00", "created_from"),
        ("created_before=0001-01-01T00:00:00%2B23:00", "created_before"),
        ("created_before=9999-12-31T23:59:59-01:00", "created_before"),
        ("created_before=now", "created_before"),
        ("agent_id=", "agent_id"),
        ("agent_id=me", "agent_id"),
        (f"agent_id=task_{ID}", "agent_id"),
        ("replay_of_task_id=%00", "replay_of_task_id"),
        ("replay_of_task_id=null", "replay_of_task_id"),
        ("mode=", "mode"),
        ("mode=LIVE", "mode"),
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=1e9", "limit"),
        ("limit=201", "limit"),
        ("limit=1000000000", "limit"),
        ("limit=", "limit"),
        ("cursor=", "cursor"),
        ("cursor=%00", "cursor"),
        ("wait=1", "wait"),
        ("limit=1&limit=1", "limit"),
    ],
)
def test_what_is_wrong_is_refused_by_its_name(query: str, field: str) -> None:
    with pytest.raises(PawlError) as refused:
        read(query)

    assert refused.value.kind.http == 422
    assert refused.value.errors[0].field == field

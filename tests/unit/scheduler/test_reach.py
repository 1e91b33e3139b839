"""What a bound key may submit and see."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from libs.core.errors import PawlError
from libs.core.lifecycle import TaskState
from libs.core.tiers import TIERS
from libs.rpc.context import Caller
from services.scheduler.model import Agent, StoredTask
from services.scheduler.reach import check_submission, is_bound, may_see, seen

AT = datetime(2026, 5, 1, tzinfo=UTC)
ONE, TWO = UUID(int=1), UUID(int=2)
FREE = Caller(
    key_id=UUID(int=9),
    tenant_id=UUID(int=8),
    tier="pro",
    scopes=frozenset({"tasks:read", "tasks:write"}),
    mode="live",
    limits=TIERS["pro"],
    expires_at=0.0,
)
OF_ONE = replace(FREE, allowed_agent_ids=frozenset({str(ONE)}))
OF_NONE = replace(FREE, allowed_agent_ids=frozenset[str]())
OF_DEFINITIONS = replace(FREE, allowed_task_ids=frozenset({str(ONE)}))
AGENTS = (None, ONE, TWO)


def agent(agent_id: UUID | None) -> Agent | None:
    return None if agent_id is None else Agent(agent_id=agent_id, max_concurrent_tasks=None)


def make_stored_task(agent: Agent | None) -> StoredTask:
    return StoredTask(
        id=UUID(int=7),
        tenant_id=FREE.tenant_id,
        state=TaskState.QUEUED,
        seq=3,
        mode="live",
        priority=0,
        task_input="{}",
        plan=None,
        plan_hash="",
        tool_set=(),
        planned_by="",
        planner_note=None,
        steps_begun=0,
        steps_closed=0,
        step_started_at=None,
        result=None,
        failure=None,
        cost_usd=0.0,
        created_at=AT,
        execution_started_at=None,
        finished_at=None,
        replay=None,
        clock_at=AT,
        task_hash="",
        scheduled_at=None,
        cancel_requested_at=None,
        tokens_used=0,
        agent=agent,
        is_held=False,
    )


@pytest.mark.parametrize(
    ("caller", "allowed"),
    [(FREE, AGENTS), (OF_ONE, (ONE,)), (OF_NONE, ()), (OF_DEFINITIONS, ())],
)
def test_key_submits_and_sees_tasks_of_its_agents(
    caller: Caller, allowed: tuple[UUID | None, ...]
) -> None:
    for agent_id in AGENTS:
        task = make_stored_task(agent(agent_id))
        assert may_see(caller, task) is (agent_id in allowed)
        if agent_id in allowed:
            check_submission(caller, task.agent)
            continue
        with pytest.raises(PawlError) as refused:
            check_submission(caller, task.agent)
        assert refused.value.code == "permission_denied"


def test_refusal_names_the_agent() -> None:
    with pytest.raises(PawlError, match=str(TWO)):
        check_submission(OF_ONE, agent(TWO))
    with pytest.raises(PawlError, match="names none"):
        check_submission(OF_ONE, None)
    with pytest.raises(PawlError, match="allowed_task_ids"):
        check_submission(OF_DEFINITIONS, agent(ONE))


def test_only_a_list_binds() -> None:
    bound = [is_bound(caller) for caller in (FREE, OF_ONE, OF_NONE, OF_DEFINITIONS)]

    assert bound == [False, True, True, True]


def test_unseen_task_is_as_unknown_as_none() -> None:
    said = []
    for task in (None, make_stored_task(agent(TWO))):
        with pytest.raises(PawlError) as refused:
            seen(OF_ONE, task)
        said.append((refused.value.code, refused.value.message))

    assert said[0] == said[1]
    assert said[0][0] == "not_found"

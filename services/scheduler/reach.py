"""How far a key reaches that is bound to agents or definitions: what it may submit and see.

No task says yet of which definition it is. So a key that is bound to definitions submits nothing
and sees nothing, until tasks do.
"""

from __future__ import annotations

from libs.core.errors import PawlError
from libs.rpc.context import Caller
from services.scheduler.convert import no_such_task
from services.scheduler.model import Agent, StoredTask


def check_submission(caller: Caller, agent: Agent | None) -> None:
    """PawlError permission_denied for a task that the caller's key may not submit."""
    if caller.allowed_task_ids is not None:
        raise PawlError(
            "permission_denied",
            "this key is bound to definitions (allowed_task_ids), and a task that names none is of "
            "none of them",
        )
    agents = caller.allowed_agent_ids
    if agents is None:
        return
    if agent is None:
        raise PawlError(
            "permission_denied",
            "this key is bound to agents (allowed_agent_ids), and the task names none",
        )
    if str(agent.agent_id) not in agents:
        raise PawlError("permission_denied", f"this key may not use the agent {agent.agent_id}")


def is_bound(caller: Caller) -> bool:
    """Whether the caller's key sees less than its whole tenant."""
    return caller.allowed_agent_ids is not None or caller.allowed_task_ids is not None


def may_see(caller: Caller, task: StoredTask) -> bool:
    """Whether the caller's key reaches a task of its tenant."""
    if caller.allowed_task_ids is not None:
        return False
    agents = caller.allowed_agent_ids
    return agents is None or (task.agent is not None and str(task.agent.agent_id) in agents)


def seen(caller: Caller, task: StoredTask | None) -> StoredTask:
    """The task. PawlError not_found: there is none, or none for the caller; which, is not said."""
    if task is None or not may_see(caller, task):
        raise no_such_task()
    return task

"""What an answer leads to, as the OpenAPI document says it: which of its values go where."""

from __future__ import annotations

from typing import Any

Links = dict[str, dict[str, Any]]


def link(operation: str, description: str, **parameters: str) -> dict[str, Any]:
    """The operation of that id, with parameters that are JSON pointers into the answer's body."""
    values = {name: f"$response.body#{pointer}" for name, pointer in parameters.items()}
    return {"operationId": operation, "description": description, "parameters": values}


TASK_LINKS: Links = {
    "Task": link("get_task", "How it stands.", task_id="/task_id"),
    "Trace": link("get_task_trace", "All that happened to it.", task_id="/task_id"),
    "Events": link("follow_task", "What happens to it.", task_id="/task_id"),
    "Cancel": link("cancel_task", "End it.", task_id="/task_id"),
    "Replay": link("replay_task", "Run it again, once it has ended.", task_id="/task_id"),
    "Replays": link("list_tasks", "Its replays.", replay_of_task_id="/task_id"),
}
TENANT_LINKS: Links = {
    "Tenant": link("get_tenant", "Look at it.", tenant="/id"),
    "Tier": link("update_tenant", "Give it another tier.", tenant="/id"),
    "Keys": link("list_keys", "Its keys.", tenant="/id"),
    "People": link("list_users", "Its people.", tenant="/id"),
    "Audit": link("list_audit", "Its changes.", tenant="/id"),
}
KEY_LINKS: Links = {
    "Key": link("get_key", "Look at it.", key_id="/id"),
    "Rotate": link("rotate_key", "Replace it.", key_id="/id"),
    "Revoke": link("revoke_key", "Revoke it.", key_id="/id"),
}
USER_LINKS: Links = {
    "Role": link("update_user", "Give them another role.", number="/number"),
    "Remove": link("remove_user", "Remove them.", number="/number"),
}


def next_page(operation: str) -> Links:
    """The list's next page, unless `next_cursor` is null."""
    return {"NextPage": link(operation, "The next page, if there is one.", cursor="/next_cursor")}

"""What lists of tasks may be narrowed to. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from libs.client.submissions import TaskLike, id_of, time_text


def list_query(
    *,
    status: str | Iterable[str] | None,
    created_from: datetime | None,
    created_before: datetime | None,
    replay_of: TaskLike | None,
    agent_id: str | None,
    mode: str | None,
    page_size: int | None,
) -> dict[str, object]:
    """The query of a list. Raises ValueError for a time without an offset from UTC."""
    words = status if status is None or isinstance(status, str) else ",".join(status)
    return {
        "status": words,
        "created_from": created_from and time_text(created_from, "created_from"),
        "created_before": created_before and time_text(created_before, "created_before"),
        "replay_of_task_id": None if replay_of is None else id_of(replay_of),
        "agent_id": agent_id,
        "mode": mode,
        "limit": page_size,
    }

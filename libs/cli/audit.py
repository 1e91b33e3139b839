"""`pawl audit`: what was changed of a tenant, and by whom."""

from __future__ import annotations

from itertools import islice
from typing import Any

from libs.cli.client import Client
from libs.cli.output import console, print_json, short_json, table

PATH = "/v1/audit"
_LARGEST_PAGE = 200
_DETAILS_CHARS = 400


def show_audit(client: Client, *, tenant: str | None, limit: int, as_json: bool) -> int:
    """Print the newest lines, at most `limit`; 0."""
    query = {"tenant": tenant, "limit": min(limit, _LARGEST_PAGE)}
    lines = list(islice(client.pages(PATH, query), limit))
    if as_json:
        print_json(lines)
        return 0
    rows = [
        (
            line["at"][:19].replace("T", " "),
            _actor(line),
            line["action"],
            line["subject"],
            short_json(line["details"], limit=_DETAILS_CHARS),
        )
        for line in lines
    ]
    columns = ("when (UTC)", "who", "what", "of", "details")
    console().print(table("Audit log", columns, rows, whole=columns[0]))
    return 0


def _actor(line: dict[str, Any]) -> str:
    if line["actor_key_id"] is None:
        return "the installation"
    user = line["actor_user_number"]
    return f"key {line['actor_key_id']}" + ("" if user is None else f"\nof user {user}")

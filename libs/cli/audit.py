"""`pawl audit`: what was changed of a tenant, and by whom."""

from __future__ import annotations

from itertools import islice
from typing import Any

from libs.cli.client import Client
from libs.cli.output import console, plain, print_json, table

PATH = "/v1/audit"
_LARGEST_PAGE = 200
_DETAILS_CHARS = 1000
_UNSAID = (None, "")


def show_audit(client: Client, *, tenant: str | None, limit: int, as_json: bool) -> int:
    """Print the newest lines, at most `limit`; 0."""
    query = {"tenant": tenant, "limit": min(limit, _LARGEST_PAGE)}
    lines = list(islice(client.pages(PATH, query), limit))
    if as_json:
        print_json(lines)
        return 0
    rows = [
        (
            f"{line['at'][:19].replace('T', ' ')}\n{_actor(line)}",
            f"{line['action']}\n{line['subject']}",
            plain(_details(line), limit=_DETAILS_CHARS),
        )
        for line in lines
    ]
    columns = ("when (UTC), who", "what, of what", "details")
    console().print(table("Audit log", columns, rows, whole=columns[1]))
    return 0


def _actor(line: dict[str, Any]) -> str:
    """Whose key made the change; the key itself is in the JSON."""
    if line["actor_key_id"] is None:
        return "the installation"
    user = line["actor_user_number"]
    return f"key {line['actor_key_id']}" if user is None else f"user {user}"


def _details(line: dict[str, Any]) -> str:
    known = {name: value for name, value in line["details"].items() if value not in _UNSAID}
    return "\n".join(f"{name}: {_text(value)}" for name, value in known.items())


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)

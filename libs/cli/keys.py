"""`pawl keys`: make, list, rotate and revoke API keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from libs.cli.client import Client
from libs.cli.output import console, day_text, error_console, print_json, table
from libs.cli.users import number_of

_PATH = "/v1/keys"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyOptions:
    """A key as the command line asks for it; what is empty or None, the server decides."""

    tenant: str | None = None
    mode: str = "live"
    name: str = ""
    prefix: str | None = None
    scopes: Sequence[str] = ()
    expires_at: str | None = None
    agents: Sequence[str] = ()
    definitions: Sequence[str] = ()
    user: str | None = None

    def body(self, *, user_number: int | None) -> dict[str, Any]:
        """What is sent."""
        asked: dict[str, Any] = {
            "tenant": self.tenant,
            "mode": self.mode,
            "name": self.name,
            "prefix": self.prefix,
            "scopes": list(self.scopes),
            "expires_at": self.expires_at,
            "allowed_agent_ids": list(self.agents),
            "allowed_task_ids": list(self.definitions),
            "user_number": user_number,
        }
        return {name: value for name, value in asked.items() if value}


def create_key(client: Client, options: KeyOptions, *, as_json: bool) -> int:
    """Make a key and print its secret, which is shown this once; 0."""
    number = None
    if options.user is not None:
        number = number_of(client, options.user, tenant=options.tenant)
    key = client.post(_PATH, options.body(user_number=number))
    _print_secret(key, as_json=as_json)
    return 0


def list_keys(client: Client, *, tenant: str | None, as_json: bool) -> int:
    """Print the keys of a tenant, revoked ones included; 0."""
    keys = list(client.pages(_PATH, {"tenant": tenant}))
    if as_json:
        print_json(keys)
        return 0
    now = datetime.now(UTC)
    rows = [
        (f"{k['display']}\n{k['id']}", _whose(k), _reach(k), _standing(k, now=now)) for k in keys
    ]
    columns = ("key and its id", "name, user", "may", "standing")
    console().print(table("Keys", columns, rows, whole=columns[0]))
    return 0


def rotate_key(
    client: Client,
    key_id: str,
    *,
    overlap_seconds: int | None,
    expires_at: str | None,
    as_json: bool,
) -> int:
    """Make a key in another's place and print its secret, which is shown this once; 0."""
    asked = {"overlap_seconds": overlap_seconds, "expires_at": expires_at}
    body = {name: value for name, value in asked.items() if value is not None}
    rotated = client.post(f"{_path(key_id)}/rotate", body)
    if not as_json:
        replaced = rotated["replaced"]
        error_console().print(
            f"The old key {replaced['display']} is good until {replaced['expires_at']}.",
            style="dim",
            soft_wrap=True,
        )
    _print_secret(rotated, as_json=as_json)
    return 0


def revoke_key(client: Client, key_id: str, *, as_json: bool) -> int:
    """Revoke a key for good; 0."""
    key = client.delete(_path(key_id))
    if as_json:
        print_json(key)
    else:
        console().print(f"key {key_id} is revoked; within 5 s it is refused everywhere")
    return 0


def _path(key_id: str) -> str:
    return f"{_PATH}/{quote(key_id, safe='')}"


def _print_secret(key: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(key)
    else:
        error_console().print("The key is shown this once; it is not stored.", style="dim")
        console().print(str(key["key"]), soft_wrap=True)


def _whose(key: dict[str, Any]) -> str:
    user = key.get("user_number")
    return "\n".join([key.get("name", "") or "–", *([f"user {user}"] if user else [])])


def _reach(key: dict[str, Any]) -> str:
    """What a key may do, a line for each kind of thing, and what it is bound to, if it is."""
    may: dict[str, list[str]] = {}
    for scope in key.get("scopes", []):
        thing, _, act = scope.partition(":")
        may.setdefault(thing, []).extend([act] if act else [])
    lines = [f"{thing}: {', '.join(acts)}" if acts else thing for thing, acts in may.items()]
    for name, what in (("allowed_agent_ids", "agent"), ("allowed_task_ids", "definition")):
        if key.get(name) is not None:
            count = len(key[name])
            lines.append(f"only {count} {what}{'' if count == 1 else 's'}")
    return "\n".join(lines)


def _standing(key: dict[str, Any], *, now: datetime) -> str:
    used = key.get("last_used_at")
    lines = [_validity(key, now=now), f"used {day_text(used)}" if used else "never used"]
    return "\n".join([*lines, f"made {day_text(key['created_at'])}"])


def _validity(key: dict[str, Any], *, now: datetime) -> str:
    if key.get("revoked_at"):
        return f"revoked {day_text(key['revoked_at'])}"
    if not key.get("expires_at"):
        return "valid"
    day = day_text(key["expires_at"])
    if datetime.fromisoformat(key["expires_at"]) <= now:
        return f"ended {day}"
    return f"rotated, until {day}" if key.get("replaced_by_id") else f"until {day}"

"""`pawl keys`: make, list and revoke API keys."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from libs.cli.client import Client
from libs.cli.output import console, day_text, error_console, print_json, table

_PATH = "/v1/keys"


def create_key(client: Client, *, tenant: str | None, mode: str, name: str, as_json: bool) -> int:
    """Make a key and print its secret, which is shown this once; 0."""
    body = (
        {"mode": mode} | ({"tenant": tenant} if tenant else {}) | ({"name": name} if name else {})
    )
    key = client.post(_PATH, body)
    if as_json:
        print_json(key)
    else:
        error_console().print("The key is shown this once; it is not stored.", style="dim")
        console().print(str(key["key"]), soft_wrap=True)
    return 0


def list_keys(client: Client, *, tenant: str | None, as_json: bool) -> int:
    """Print the keys of a tenant, revoked ones included; 0."""
    keys = list(client.pages(_PATH, {"tenant": tenant}))
    if as_json:
        print_json(keys)
        return 0
    rows = [
        (f"{k['display']}\n{k['id']}", k.get("name", ""), _standing(k), day_text(k["created_at"]))
        for k in keys
    ]
    columns = ("key and its id", "name", "standing", "made")
    console().print(table("Keys", columns, rows, whole=columns[0]))
    return 0


def revoke_key(client: Client, key_id: str, *, as_json: bool) -> int:
    """Revoke a key for good; 0."""
    key = client.delete(f"{_PATH}/{quote(key_id, safe='')}")
    if as_json:
        print_json(key)
    else:
        console().print(f"key {key_id} is revoked; within 5 s it is refused everywhere")
    return 0


def _standing(key: dict[str, Any]) -> str:
    if key.get("revoked_at"):
        return f"revoked {day_text(key['revoked_at'])}"
    return f"until {day_text(key['expires_at'])}" if key.get("expires_at") else "valid"

"""`pawl users`: a tenant's people and their roles."""

from __future__ import annotations

from typing import Any

from libs.cli.client import Client
from libs.cli.output import console, day_text, plain, print_json, table
from libs.cli.run import BadArgument

PATH = "/v1/users"
_LARGEST_PAGE = 200


def add_user(client: Client, email: str, *, role: str, tenant: str | None, as_json: bool) -> int:
    """Add a person and print them; 0."""
    body = {"email": email, "role": role} | ({"tenant": tenant} if tenant else {})
    user = client.post(PATH, body)
    if as_json:
        print_json(user)
    else:
        _say(f"user {user['number']} ({user['email']}) is a {user['role']}")
    return 0


def list_users(client: Client, *, tenant: str | None, as_json: bool) -> int:
    """Print the people of a tenant; 0."""
    users = _people(client, tenant)
    if as_json:
        print_json(users)
        return 0
    rows = [(str(u["number"]), u["email"], u["role"], day_text(u["created_at"])) for u in users]
    console().print(table("Users", ("number", "address", "role", "added"), rows, whole="number"))
    return 0


def set_role(client: Client, user: str, *, role: str, tenant: str | None, as_json: bool) -> int:
    """Give a person another role; 0."""
    number = number_of(client, user, tenant=tenant)
    changed = client.patch(f"{PATH}/{number}", {"role": role})
    if as_json:
        print_json(changed)
    else:
        _say(f"user {number} ({changed['email']}) is {changed['role']} within 5 s everywhere")
    return 0


def remove_user(client: Client, user: str, *, tenant: str | None, as_json: bool) -> int:
    """Remove a person for good; 0."""
    number = number_of(client, user, tenant=tenant)
    removed = client.delete(f"{PATH}/{number}")
    if as_json:
        print_json(removed)
    else:
        _say(
            f"user {number} ({removed['email']}) is removed; keys revoked: "
            f"{removed['keys_revoked']}"
        )
    return 0


def number_of(client: Client, user: str, *, tenant: str | None) -> int:
    """The number of a user who is named by it or by their address. Raises BadArgument."""
    if user.isascii() and user.isdecimal():
        return int(user)
    if "@" not in user:
        raise BadArgument(f"{user[:64]!a} is neither a user's number nor an address")
    for one in _people(client, tenant):
        if one["email"].lower() == user.lower():
            return int(one["number"])
    raise BadArgument(f"there is no user {user[:64]!a}; see pawl users list")


def _people(client: Client, tenant: str | None) -> list[dict[str, Any]]:
    return list(client.pages(PATH, {"tenant": tenant, "limit": _LARGEST_PAGE}))


def _say(line: str) -> None:
    console().print(plain(line, limit=500), soft_wrap=True)

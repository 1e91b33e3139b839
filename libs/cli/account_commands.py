"""The commands about accounts: `pawl tenants`, `keys`, `users` and `audit`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from libs.cli.connect import connect

tenants = typer.Typer(help="Make, list and change tenants.", no_args_is_help=True)
keys = typer.Typer(help="Make, list, rotate and revoke API keys.", no_args_is_help=True)
users = typer.Typer(help="Add, list, change and remove a tenant's people.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
TenantName = Annotated[
    str | None, typer.Option("--tenant", help="The tenant's name or id; default: the key's own.")
]
KeyId = Annotated[str, typer.Argument(help="The key's id, as `pawl keys list` shows it.")]
Person = Annotated[str, typer.Argument(help="The user's number or address.")]
Expires = Annotated[
    str | None,
    typer.Option("--expires", metavar="TIME", help="Its end, such as 2027-01-01T00:00:00Z."),
]


@tenants.command("create")
def create_tenant(
    name: Annotated[str, typer.Argument(help="1 to 64 of a-z, 0-9 and -, a letter first.")],
    *,
    tier: Annotated[str, typer.Option(help="free, starter, pro or enterprise.")],
    email: Annotated[str | None, typer.Option(help="The owner's address.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a tenant."""
    from libs.cli.tenants import create_tenant as create

    sys.exit(create(connect(), name, tier=tier, email=email, as_json=as_json))


@tenants.command("list")
def list_tenants(*, as_json: AsJson = False) -> None:
    """List all tenants."""
    from libs.cli.tenants import list_tenants as show

    sys.exit(show(connect(), as_json=as_json))


@tenants.command("set-tier")
def set_tier(
    tenant: Annotated[str, typer.Argument(help="The tenant's name or id.")],
    tier: Annotated[str, typer.Argument(help="free, starter, pro or enterprise.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Give a tenant another tier."""
    from libs.cli.tenants import set_tier as change

    sys.exit(change(connect(), tenant, tier=tier, as_json=as_json))


@keys.command("create")
def create_key(
    *,
    tenant: TenantName = None,
    mode: Annotated[str, typer.Option(help="live or test.")] = "live",
    name: Annotated[str, typer.Option(help="A label for people.")] = "",
    prefix: Annotated[
        str | None, typer.Option(help="pawl, atx or ra; only how it looks.", show_default="pawl")
    ] = None,
    scopes: Annotated[
        list[str] | None,
        typer.Option("--scope", help="What it may do, such as tasks:read; repeat for more."),
    ] = None,
    expires: Expires = None,
    agents: Annotated[
        list[str] | None,
        typer.Option("--agent", metavar="ID", help="Only this agent; repeat for more."),
    ] = None,
    definitions: Annotated[
        list[str] | None,
        typer.Option("--definition", metavar="ID", help="Only this definition; repeat for more."),
    ] = None,
    user: Annotated[
        str | None, typer.Option(help="Whose key it is: a number or an address.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key. Its secret is printed once and never shown again."""
    from libs.cli.keys import KeyOptions
    from libs.cli.keys import create_key as create

    options = KeyOptions(
        tenant=tenant,
        mode=mode,
        name=name,
        prefix=prefix,
        scopes=scopes or [],
        expires_at=expires,
        agents=agents or [],
        definitions=definitions or [],
        user=user,
    )
    sys.exit(create(connect(), options, as_json=as_json))


@keys.command("list")
def list_keys(*, tenant: TenantName = None, as_json: AsJson = False) -> None:
    """List the keys of a tenant."""
    from libs.cli.keys import list_keys as show

    sys.exit(show(connect(), tenant=tenant, as_json=as_json))


@keys.command("rotate")
def rotate_key(
    key_id: KeyId,
    *,
    overlap: Annotated[
        int | None,
        typer.Option(help="Seconds for which the old key stays good.", show_default="86400"),
    ] = None,
    expires: Expires = None,
    as_json: AsJson = False,
) -> None:
    """Put a new key in a key's place. Its secret is printed once and never shown again."""
    from libs.cli.keys import rotate_key as rotate

    client = connect()
    sys.exit(rotate(client, key_id, overlap_seconds=overlap, expires_at=expires, as_json=as_json))


@keys.command("revoke")
def revoke_key(key_id: KeyId, *, as_json: AsJson = False) -> None:
    """Revoke a key for good."""
    from libs.cli.keys import revoke_key as revoke

    sys.exit(revoke(connect(), key_id, as_json=as_json))


@users.command("add")
def add_user(
    email: Annotated[str, typer.Argument(help="The e-mail address.")],
    *,
    role: Annotated[str, typer.Option(help="admin, member or viewer.")],
    tenant: TenantName = None,
    as_json: AsJson = False,
) -> None:
    """Add a person to a tenant."""
    from libs.cli.users import add_user as add

    sys.exit(add(connect(), email, role=role, tenant=tenant, as_json=as_json))


@users.command("list")
def list_users(*, tenant: TenantName = None, as_json: AsJson = False) -> None:
    """List the people of a tenant."""
    from libs.cli.users import list_users as show

    sys.exit(show(connect(), tenant=tenant, as_json=as_json))


@users.command("set-role")
def set_role(
    user: Person,
    role: Annotated[str, typer.Argument(help="owner, admin, member or viewer.")],
    *,
    tenant: TenantName = None,
    as_json: AsJson = False,
) -> None:
    """Give a person another role. A new owner makes the old one an admin."""
    from libs.cli.users import set_role as change

    sys.exit(change(connect(), user, role=role, tenant=tenant, as_json=as_json))


@users.command("remove")
def remove_user(user: Person, *, tenant: TenantName = None, as_json: AsJson = False) -> None:
    """Remove a person for good, and revoke their keys."""
    from libs.cli.users import remove_user as remove

    sys.exit(remove(connect(), user, tenant=tenant, as_json=as_json))


def audit(
    *,
    tenant: TenantName = None,
    limit: Annotated[int, typer.Option(min=1, help="How many lines at most.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show what was changed of a tenant, and by whom, newest first."""
    from libs.cli.audit import show_audit

    sys.exit(show_audit(connect(), tenant=tenant, limit=limit, as_json=as_json))

"""`pawl tenants`: make, list and change tenants. Needs scope operator, as `pawl up`'s key has."""

from __future__ import annotations

from urllib.parse import quote

from libs.cli.client import Client
from libs.cli.output import console, day_text, print_json, table

_PATH = "/v1/tenants"


def create_tenant(client: Client, name: str, *, tier: str, email: str | None, as_json: bool) -> int:
    """Make a tenant and print it; 0."""
    body = {"name": name, "tier": tier} | ({"email": email} if email else {})
    tenant = client.post(_PATH, body)
    if as_json:
        print_json(tenant)
    else:
        console().print(f"tenant {tenant['name']} ({tenant['tier']}) made: {tenant['id']}")
    return 0


def set_tier(client: Client, tenant: str, *, tier: str, as_json: bool) -> int:
    """Give a tenant another tier and print it; 0."""
    changed = client.patch(f"{_PATH}/{quote(tenant, safe='')}", {"tier": tier})
    if as_json:
        print_json(changed)
    else:
        console().print(f"tenant {changed['name']} is {changed['tier']} within 5 s everywhere")
    return 0


def list_tenants(client: Client, *, as_json: bool) -> int:
    """Print all tenants; 0."""
    tenants = list(client.pages(_PATH))
    if as_json:
        print_json(tenants)
        return 0
    rows = [(t["name"], t["tier"], t["id"], day_text(t["created_at"])) for t in tenants]
    console().print(table("Tenants", ("name", "tier", "id", "made"), rows, whole="id"))
    return 0

"""Who may call which method of auth."""

from __future__ import annotations

from libs.rpc.server import ANYONE, CALLER, Access

SERVICE = "pawl.auth.v1.AuthService"

GATEWAY = "gateway"
_CALLERS = frozenset({CALLER})

ACCESS: Access = {
    # The key in the request is what proves who calls; the gateway may also give permits back.
    f"/{SERVICE}/Authenticate": frozenset({ANYONE, GATEWAY}),
    f"/{SERVICE}/ReturnPermits": frozenset({GATEWAY}),
    f"/{SERVICE}/CreateTenant": _CALLERS,
    f"/{SERVICE}/ListTenants": _CALLERS,
    f"/{SERVICE}/CreateKey": _CALLERS,
    f"/{SERVICE}/ListKeys": _CALLERS,
    f"/{SERVICE}/RevokeKey": _CALLERS,
    f"/{SERVICE}/GetUsage": _CALLERS,
}

# TEMPORARY
for _name in (
    "ListUsers CreateUser UpdateUser RemoveUser ListAudit RotateKey UpdateTenant ListUsage".split()
):
    ACCESS.setdefault(f"/{SERVICE}/{_name}", _CALLERS)  # type: ignore

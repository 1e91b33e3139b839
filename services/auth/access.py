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
    f"/{SERVICE}/UpdateTenant": _CALLERS,
    f"/{SERVICE}/ListTenants": _CALLERS,
    f"/{SERVICE}/GetTenant": _CALLERS,
    f"/{SERVICE}/CreateKey": _CALLERS,
    f"/{SERVICE}/GetKey": _CALLERS,
    f"/{SERVICE}/ListKeys": _CALLERS,
    f"/{SERVICE}/RevokeKey": _CALLERS,
    f"/{SERVICE}/RotateKey": _CALLERS,
    f"/{SERVICE}/CreateUser": _CALLERS,
    f"/{SERVICE}/ListUsers": _CALLERS,
    f"/{SERVICE}/UpdateUser": _CALLERS,
    f"/{SERVICE}/RemoveUser": _CALLERS,
    f"/{SERVICE}/ListAudit": _CALLERS,
    f"/{SERVICE}/GetUsage": _CALLERS,
    f"/{SERVICE}/ListUsage": _CALLERS,
}

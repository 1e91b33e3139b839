"""Who may call which RPC of the planner."""

from __future__ import annotations

from libs.rpc.server import CALLER

SERVICE = "pawl.planner.v1.PlannerService"

ACCESS: dict[str, frozenset[str]] = {
    f"/{SERVICE}/BuildPlan": frozenset({"scheduler"}),
    f"/{SERVICE}/AdmitPlan": frozenset({"scheduler"}),
    f"/{SERVICE}/RegisterTools": frozenset({"executor"}),
    f"/{SERVICE}/WithdrawTools": frozenset({"executor"}),
    f"/{SERVICE}/ListTools": frozenset({CALLER}),
}

"""Who may call the sandbox: executors, and nobody else."""

from __future__ import annotations

from libs.rpc.server import Access

SERVICE = "pawl.executor.v1.SandboxService"

_EXECUTORS = frozenset({"executor"})

ACCESS: Access = {
    f"/{SERVICE}/{method}": _EXECUTORS
    for method in ("DescribeSandbox", "RunCode", "KillRun", "ListBoots", "RemoveBoots")
}

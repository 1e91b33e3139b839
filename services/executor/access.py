"""Who may call which method of the executor."""

from __future__ import annotations

from libs.rpc.server import CALLER, Access
from libs.rpc.tokens import SERVICES

SERVICE = "pawl.executor.v1.ExecutorService"

ACCESS: Access = {f"/{SERVICE}/Describe": frozenset({CALLER, *SERVICES})}

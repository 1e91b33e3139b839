"""Every RPC: who may call it, what it needs, what it names, and what another account is told.

A new RPC has to have its row here, or test_isolated_rpcs.py fails.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from libs.rpc.server import ANYONE, CALLER
from libs.rpc.tokens import SERVICES
from tests.e2e.isolation.routes import OPERATOR

AUTH = "pawl.auth.v1.AuthService"
PLANNER = "pawl.planner.v1.PlannerService"
SCHEDULER = "pawl.scheduler.v1.SchedulerService"
WORK = "pawl.scheduler.v1.WorkService"
EXECUTOR = "pawl.executor.v1.ExecutorService"
SANDBOX = "pawl.executor.v1.SandboxService"
ARTIFACT = "pawl.artifact.v1.ArtifactService"
SERVED_BY = {
    AUTH: "auth",
    PLANNER: "planner",
    SCHEDULER: "scheduler",
    WORK: "scheduler",
    EXECUTOR: "executor",
    SANDBOX: "sandbox",
    ARTIFACT: "artifact",
}
"""Service → the process that serves it, which is also the audience of service tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rpc:
    """One method. `$TASK`, `$KEY`, … in `request` (its JSON form) as in routes.py.

    `who`: callers, services by name, or anyone. Of callers, `scopes`: all that it needs; `other`:
    what a caller of another account is refused with, empty where they are answered with what is
    their own; `test`: where a caller in test mode is refused. `shows`: the own answer has something
    in it that only the account may see.
    """

    service: str
    method: str
    who: frozenset[str] = frozenset({CALLER})
    scopes: tuple[str, ...] = ()
    request: dict[str, Any] = field(default_factory=dict)
    other: str = "not_found"
    test: bool = False
    shows: bool = True
    writes: bool = False

    @property
    def path(self) -> str:
        """As gRPC spells it."""
        return f"/{self.service}/{self.method}"

    @property
    def id(self) -> str:
        """For people."""
        return f"{self.service.rpartition('.')[2]}.{self.method}"

    @property
    def audience(self) -> str:
        """Whose it is."""
        return SERVED_BY[self.service]


def _to(*names: str) -> frozenset[str]:
    return frozenset(names)


NOBODY_ELSE = "insufficient_scope"
READ, WRITE = ("tasks:read",), ("tasks:write",)
SUM = {"task_input_json": '{"expression":"1+1"}'}

AUTHS: tuple[Rpc, ...] = (
    Rpc(
        service=AUTH,
        method="Authenticate",
        who=_to(ANYONE, "gateway"),
        request={"api_key": "pawl_live_" + "0" * 38},
    ),
    Rpc(
        service=AUTH,
        method="ReturnPermits",
        who=_to("gateway"),
        request={"permits": [{"tenant_id": "$TENANT_ID", "mode": "test", "count": 1}]},
    ),
    Rpc(
        service=AUTH,
        method="CreateTenant",
        scopes=(OPERATOR,),
        request={"name": "$NEW", "tier": "free"},
        other=NOBODY_ELSE,
        shows=False,
        writes=True,
    ),
    Rpc(
        service=AUTH,
        method="UpdateTenant",
        scopes=(OPERATOR,),
        request={"tenant": "$TENANT", "tier": "enterprise"},
        other=NOBODY_ELSE,
        writes=True,
    ),
    Rpc(service=AUTH, method="ListTenants", scopes=(OPERATOR,), other=NOBODY_ELSE),
    Rpc(
        service=AUTH,
        method="GetTenant",
        scopes=("keys:read",),
        request={"tenant": "$TENANT"},
        other=NOBODY_ELSE,
    ),
    Rpc(
        service=AUTH,
        method="CreateKey",
        scopes=("keys:write",),
        request={"tenant": "$TENANT", "mode": "test"},
        other=NOBODY_ELSE,
        writes=True,
    ),
    Rpc(service=AUTH, method="GetKey", scopes=("keys:read",), request={"key_id": "$KEY"}),
    Rpc(
        service=AUTH,
        method="ListKeys",
        scopes=("keys:read",),
        request={"tenant": "$TENANT_ID"},
        other=NOBODY_ELSE,
    ),
    Rpc(
        service=AUTH,
        method="RevokeKey",
        scopes=("keys:write",),
        request={"key_id": "$KEY"},
        test=True,
        writes=True,
    ),
    Rpc(
        service=AUTH,
        method="RotateKey",
        scopes=("keys:write",),
        request={"key_id": "$KEY"},
        test=True,
        writes=True,
    ),
    Rpc(
        service=AUTH,
        method="CreateUser",
        scopes=("users:write",),
        request={"tenant": "$TENANT", "email": "$NEW@example.org", "role": "member"},
        other=NOBODY_ELSE,
        test=True,
        writes=True,
    ),
    Rpc(
        service=AUTH,
        method="ListUsers",
        scopes=("users:read",),
        request={"tenant": "$TENANT"},
        other=NOBODY_ELSE,
    ),
    Rpc(
        service=AUTH,
        method="UpdateUser",
        scopes=("users:write",),
        request={"number": "$USER", "role": "viewer"},
        test=True,
        writes=True,
    ),
    Rpc(
        service=AUTH,
        method="RemoveUser",
        scopes=("users:write",),
        request={"number": "$USER"},
        test=True,
        writes=True,
    ),
    Rpc(
        service=AUTH,
        method="ListAudit",
        scopes=("audit:read",),
        request={"tenant": "$TENANT"},
        other=NOBODY_ELSE,
    ),
    Rpc(service=AUTH, method="GetUsage", scopes=READ, other=""),
    Rpc(service=AUTH, method="ListUsage", scopes=READ, other="", shows=False),
)
SCHEDULERS: tuple[Rpc, ...] = (
    Rpc(
        service=SCHEDULER,
        method="SubmitTask",
        scopes=WRITE,
        request=SUM,
        other="",
        writes=True,
    ),
    Rpc(
        service=SCHEDULER,
        method="SubmitTasks",
        scopes=WRITE,
        request={"tasks": [SUM, SUM]},
        other="",
        writes=True,
    ),
    Rpc(
        service=SCHEDULER,
        method="ReplayTask",
        scopes=("tasks:write", "tasks:read"),
        request={"task_id": "$TASK"},
        writes=True,
    ),
    Rpc(service=SCHEDULER, method="ListTasks", scopes=READ, other=""),
    Rpc(service=SCHEDULER, method="CountTasks", scopes=READ, other="", shows=False),
    Rpc(service=SCHEDULER, method="GetTask", scopes=READ, request={"task_id": "$TASK"}),
    Rpc(
        service=SCHEDULER,
        method="CancelTask",
        scopes=WRITE,
        request={"task_id": "$WAITING"},
        writes=True,
    ),
    Rpc(service=SCHEDULER, method="GetTrace", scopes=READ, request={"task_id": "$TASK"}),
    Rpc(
        service=SCHEDULER,
        method="WatchEvents",
        scopes=READ,
        request={"task_id": "$TASK"},
    ),
    Rpc(
        service=SCHEDULER,
        method="WatchEvents",
        scopes=READ,
        request={"after_position": 0},
        other="",
    ),
    Rpc(
        service=SCHEDULER,
        method="RepublishEvents",
        scopes=(OPERATOR,),
        request={"task_id": "$TASK"},
        other=NOBODY_ELSE,
        shows=False,
        writes=True,
    ),
    Rpc(service=WORK, method="Work", who=_to("executor")),
    Rpc(service=WORK, method="JudgeBoots", who=_to("executor")),
    Rpc(
        service=WORK,
        method="RecallStep",
        who=_to("executor"),
        request={"task_id": "$TASK", "lease_token": 1, "step_index": 1},
    ),
)
OTHERS: tuple[Rpc, ...] = (
    Rpc(service=PLANNER, method="BuildPlan", who=_to("scheduler"), request=SUM),
    Rpc(service=PLANNER, method="AdmitPlan", who=_to("scheduler")),
    Rpc(service=PLANNER, method="RegisterTools", who=_to("executor")),
    Rpc(service=PLANNER, method="WithdrawTools", who=_to("executor")),
    Rpc(service=PLANNER, method="ListTools", other="", shows=False),
    Rpc(
        service=EXECUTOR,
        method="Describe",
        who=_to(CALLER, *SERVICES),
        other="",
        shows=False,
    ),
    *(
        Rpc(service=SANDBOX, method=method, who=_to("executor"))
        for method in ("DescribeSandbox", "RunCode", "KillRun", "ListBoots", "RemoveBoots")
    ),
    Rpc(
        service=ARTIFACT,
        method="PutArtifact",
        who=_to("executor"),
        request={"task_id": "$TASK", "step_index": 1, "type": "note", "data_json": "{}"},
    ),
    Rpc(
        service=ARTIFACT,
        method="GetArtifact",
        scopes=READ,
        request={"artifact_id": "$ARTIFACT"},
    ),
    Rpc(
        service=ARTIFACT,
        method="ListArtifacts",
        scopes=READ,
        request={"task_id": "$TASK"},
        other="",
    ),
)
RPCS = (*AUTHS, *SCHEDULERS, *OTHERS)

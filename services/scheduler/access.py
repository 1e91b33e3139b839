"""Who may call what."""

from __future__ import annotations

from libs.rpc.server import CALLER

SCHEDULER_SERVICE = "pawl.scheduler.v1.SchedulerService"
WORK_SERVICE = "pawl.scheduler.v1.WorkService"

ACCESS: dict[str, frozenset[str]] = {
    f"/{SCHEDULER_SERVICE}/SubmitTask": frozenset({CALLER}),
    f"/{SCHEDULER_SERVICE}/ReplayTask": frozenset({CALLER}),
    f"/{SCHEDULER_SERVICE}/GetTask": frozenset({CALLER}),
    f"/{SCHEDULER_SERVICE}/CancelTask": frozenset({CALLER}),
    f"/{SCHEDULER_SERVICE}/GetTrace": frozenset({CALLER}),
    f"/{SCHEDULER_SERVICE}/WatchEvents": frozenset({CALLER}),
    f"/{SCHEDULER_SERVICE}/RepublishEvents": frozenset({CALLER}),
    f"/{WORK_SERVICE}/Work": frozenset({"executor"}),
    f"/{WORK_SERVICE}/JudgeBoots": frozenset({"executor"}),
    f"/{WORK_SERVICE}/RecallStep": frozenset({"executor"}),
}

# TEMPORARY
for _name in "SubmitTasks ListTasks CountTasks".split():
    ACCESS.setdefault(f"/{SCHEDULER_SERVICE}/{_name}", frozenset({CALLER}))

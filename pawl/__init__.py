"""The Python client of Pawl: submit tasks, wait for them, follow them, check what they did.

    import pawl

    with pawl.Client("http://127.0.0.1:8080", api_key) as client:
        task = client.wait(client.submit({"expression": "6 * 7"}))
        print(task.raise_for_failure().result)

docs/client.md has more. Nothing here needs the server's own modules.
"""

from libs.client.accounts import Tool, ToolExample, Usage
from libs.client.async_client import AsyncClient
from libs.client.client import Client
from libs.client.errors import (
    BadAddress,
    Conflict,
    Error,
    Forbidden,
    Invalid,
    NotFound,
    NotPawl,
    RateLimited,
    Refused,
    Unauthenticated,
    Unavailable,
    Unreachable,
)
from libs.client.retrying import NEVER, Retry
from libs.client.submissions import Submission, TaskLike
from libs.client.tasks import Accepted, Event, Failure, Queue, Task, TaskFailed, WaitExpired
from libs.client.traces import (
    Divergence,
    Replay,
    StepRecord,
    Summary,
    Trace,
    Verification,
    VerifiedStep,
    read_trace,
    verify,
)
from libs.client.wire import Again
from libs.core.errors import FieldError
from libs.core.plan import Limits, Plan, Step
from libs.core.recorded_trace import NotATrace
from libs.core.verification import Check, Report

__all__ = [
    "NEVER",
    "Accepted",
    "Again",
    "AsyncClient",
    "BadAddress",
    "Check",
    "Client",
    "Conflict",
    "Divergence",
    "Error",
    "Event",
    "Failure",
    "FieldError",
    "Forbidden",
    "Invalid",
    "Limits",
    "NotATrace",
    "NotFound",
    "NotPawl",
    "Plan",
    "Queue",
    "RateLimited",
    "Refused",
    "Replay",
    "Report",
    "Retry",
    "Step",
    "StepRecord",
    "Submission",
    "Summary",
    "Task",
    "TaskFailed",
    "TaskLike",
    "Tool",
    "ToolExample",
    "Trace",
    "Unauthenticated",
    "Unavailable",
    "Unreachable",
    "Usage",
    "Verification",
    "VerifiedStep",
    "WaitExpired",
    "read_trace",
    "verify",
]
